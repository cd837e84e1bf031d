"""MLflow's functions that the server uses, for every supported version of MLflow.

The environment of a model has the MLflow that the model was logged with, from 2.9. Only this module
knows which version has which function.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import infer_and_parse_data, parse_csv_input
from mlflow.types.schema import ColSpec, DataType, Schema, TensorSpec
from mlflow.utils.proto_json_utils import NumpyEncoder

__all__ = [
    "ColSpec",
    "DataType",
    "MlflowException",
    "NumpyEncoder",
    "Schema",
    "TensorSpec",
    "infer_and_parse_data",
    "is_required",
    "is_unified_llm_input",
    "parse_csv_input",
    "serving_input",
]

try:
    from mlflow.pyfunc.utils.serving_data_parser import is_unified_llm_input  # from 2.19
except ImportError:
    from mlflow.pyfunc import scoring_server as _scoring_server

    def is_unified_llm_input(json_input: dict[str, Any]) -> Any:
        """Whether a request is that of a chat, completion or embedding model.

        MLflow accepts such requests from 2.10.
        """
        keys = getattr(_scoring_server, "SUPPORTED_LLM_FORMATS", ())
        return any(key in json_input for key in keys)


def is_required(spec: ColSpec | TensorSpec) -> bool:
    """Whether an input must be in every request. MLflow 2.9 has `optional` columns only."""
    if hasattr(spec, "required"):
        return bool(spec.required)
    return not getattr(spec, "optional", False)


def serving_input(metadata: Any, folder: str) -> str | None:
    """The input example of the model in `folder` as a request to `/invocations`, or None.

    MLflow stores that request from 2.14. Earlier models have the example alone.
    """
    info = metadata.saved_input_example_info
    if not info:
        return None
    if hasattr(metadata, "get_serving_input") and (stored := metadata.get_serving_input(folder)):
        return str(stored)
    example = json.loads(Path(folder, info["artifact_path"]).read_text(encoding="utf-8"))
    request: dict[str, Any] = {}
    if info.get("params"):  # from 2.8: the example and its parameters in one file
        request["params"] = example["params"]
        example = example["inputs"]
    if info.get("type") == "dataframe":
        return json.dumps({"dataframe_split": example, **request})
    if info.get("type") == "ndarray" and isinstance(example, dict):
        return json.dumps({**example, **request})
    return None
