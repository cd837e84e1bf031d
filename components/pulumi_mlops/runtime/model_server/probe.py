"""Requests made from a signature, for a model that was logged without an input example."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pulumi_mlops.runtime.model_server.signature import FLOATS, INTEGERS, Input, Signature


@dataclass(frozen=True, slots=True)
class Values:
    """The values of one attempt, by kind of type."""

    number: float
    text: str
    flag: bool


# A model may refuse a value that is not of its domain: one answer is enough.
ATTEMPTS = (
    Values(1, "a", True),
    Values(0, "", False),
    Values(2, "1", True),
    Values(100, "2024-01-01", False),
    Values(-1, "{}", True),
)
BINARY = "AA=="
DATETIME = "2024-01-01T00:00:00"
ANY_SIZE = 1
"""The size of a dimension that may have any size."""


def probes(signature: Signature) -> Iterator[bytes]:
    """Requests to `/invocations` of one row, of which a model that works answers at least one.

    There is none without a signature.
    """
    if not signature.inputs:
        return
    for values in ATTEMPTS:
        yield json.dumps(_request(signature, values)).encode()


def has_free_values(signature: Signature) -> bool:
    """Whether the values that a model accepts cannot be told from its signature.

    Any number is valid input for a column of numbers. A text, a nested value or a dimension of any
    size may have to be one that the model knows.
    """
    return signature.raw or any(
        item.nested or item.datatype == "BYTES" or -1 in item.shape[1:] for item in signature.inputs
    )


def _request(signature: Signature, values: Values) -> dict[str, Any]:
    inputs = signature.inputs
    if not signature.tabular:
        tensors = {item.name: _tensor(item, values) for item in inputs}
        return {"inputs": tensors if signature.named else next(iter(tensors.values()))}
    row = [_column(spec.type, values) for spec in signature.input_schema.inputs]  # type: ignore[union-attr]
    if signature.raw:
        return {"inputs": row[:1]}
    split: dict[str, Any] = {"data": [row]}
    if signature.named:
        split["columns"] = [item.key for item in inputs]
    return {"dataframe_split": split}


def _tensor(item: Input, values: Values) -> Any:
    value: Any = values.text
    if item.datatype in FLOATS:
        value = float(values.number)
    elif item.datatype in INTEGERS:
        value = abs(int(values.number)) if item.datatype.startswith("U") else int(values.number)
    elif item.datatype == "BOOL":
        value = values.flag
    elif item.kind.startswith("datetime"):
        value = DATETIME
    for size in reversed(item.shape):
        value = [value] * (ANY_SIZE if size == -1 else size)
    return value


def _column(kind: Any, values: Values) -> Any:
    """A value of one of MLflow's column types, of which old versions have only some."""
    if hasattr(kind, "properties"):  # Object
        return {part.name: _column(part.dtype, values) for part in kind.properties}
    if hasattr(kind, "value_type"):  # Map
        return {values.text: _column(kind.value_type, values)}
    if hasattr(kind, "dtype"):  # Array
        return [_column(kind.dtype, values)]
    by_name = {
        "float": float(values.number),
        "double": float(values.number),
        "integer": int(values.number),
        "long": int(values.number),
        "boolean": values.flag,
        "datetime": DATETIME,
        "binary": BINARY,
    }
    return by_name.get(getattr(kind, "name", ""), values.text)
