"""The fast way for the commonest models: rows of numbers of one type.

Measured on a scikit-learn pipeline, one row a request: of MLflow's 3.5 ms for /invocations, 1.1 ms
parse JSON into a DataFrame column by column and 0.9 ms enforce the signature a second time, where
the model itself takes 1.5 ms. A model whose columns are all required and of one numeric type needs
neither: the block built here has exactly the columns, order and type of the signature.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from pulumi_mlops.runtime.model_server.signature import Signature

PYTHON_MODEL = "mlflow.pyfunc.model"  # models of the user's own class, which may want a context
# In these libraries every `predict` function answers one row for each row.
ROW_BY_ROW = frozenset({"mlflow.sklearn", "mlflow.xgboost", "mlflow.lightgbm", "mlflow.catboost"})


class Block:
    """Builds the DataFrame of a signature whose columns are required and of one numeric type."""

    def __init__(self, signature: Signature) -> None:
        self.names = [item.name for item in signature.inputs]
        self.columns = [item.key for item in signature.inputs]
        self.dtype = signature.inputs[0].dtype
        self._index = pd.Index(self.columns)

    def frame(self, values: Mapping[str, Any], rows: int) -> pd.DataFrame:
        """One array per name to a DataFrame; one block is ten times faster than many."""
        block = np.empty((rows, len(self.columns)), self.dtype)
        for index, name in enumerate(self.names):
            block[:, index] = values[name]
        return pd.DataFrame(block, columns=self._index)

    def from_matrix(self, matrix: np.ndarray[Any, Any]) -> pd.DataFrame:
        """Rows of all columns, in the signature's order."""
        return pd.DataFrame(matrix, columns=self._index)

    def from_split(self, split: Any) -> pd.DataFrame | None:
        """MLflow's ``dataframe_split``, or None when it is not plain numbers of all columns.

        Whatever is unusual is left to MLflow's own parser, whose rules and messages then hold.
        """
        if not isinstance(split, dict) or split.keys() != {"columns", "data"}:
            return None
        try:
            matrix = np.array(split["data"])
        except ValueError:
            return None
        plain = (
            split["columns"] == self.columns
            and matrix.ndim == 2
            and matrix.size > 0
            and matrix.shape[1] == len(self.columns)
            # No narrowing of integers here: MLflow decides what that means.
            and (
                matrix.dtype == self.dtype or (self.dtype.kind == "f" and matrix.dtype.kind in "iu")
            )
        )
        if not plain:
            return None
        return self.from_matrix(matrix.astype(self.dtype, copy=False))


def block_of(signature: Signature) -> Block | None:
    """The block of a signature, or None when its columns are optional, mixed or not numbers."""
    inputs = signature.inputs
    if not inputs or not signature.tabular or not signature.named or signature.raw:
        return None
    if len({item.dtype for item in inputs}) > 1 or inputs[0].dtype.kind not in "if":
        return None
    return Block(signature) if all(item.required for item in inputs) else None


def answers_rows(pyfunc: Any) -> bool:
    """Whether the model's library promises one row of the answer for each row of a request."""
    flavor = pyfunc.metadata.flavors.get("python_function", {})
    function = str(flavor.get("predict_fn", "predict"))
    return flavor.get("loader_module") in ROW_BY_ROW and function.startswith("predict")


def direct_predict(pyfunc: Any, signature: Signature) -> Callable[[Any], Any] | None:
    """The model's own predict function, without MLflow's enforcement around it, if there is one.

    ``_model_impl`` is what MLflow declares a stable developer API. The caller has to prove the
    function against ``pyfunc.predict`` before it uses it.
    """
    flavor = pyfunc.metadata.flavors.get("python_function", {})
    if signature.params or flavor.get("loader_module") in (None, PYTHON_MODEL):
        return None
    implementation = getattr(pyfunc, "_model_impl", None)
    function = getattr(implementation, flavor.get("predict_fn", "predict"), None)
    if function is None:
        return None
    parameters = list(inspect.signature(function).parameters.values())
    needed = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return function if len(needed) == 1 else None
