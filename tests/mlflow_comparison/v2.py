"""V2 requests made from valid input, and the values of V2 answers.

Source: the Open Inference Protocol's REST definition, "Tensor Data",
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
from mlflow.utils.proto_json_utils import NumpyEncoder

DATATYPES = {
    "BOOL": bool, "BYTES": str,
    **{f"{sign}INT{bits}": int for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": float for bits in (16, 32, 64)},
}  # fmt: skip


def tensors(sample: Any) -> list[dict[str, Any]]:
    """The input tensors of a sample: one for each column or named array, otherwise one."""
    if isinstance(sample, pd.DataFrame):
        return [_column(str(name), sample[name].tolist(), sample[name].dtype) for name in sample]
    if isinstance(sample, np.ndarray):
        return [_array("x", sample)]
    if isinstance(sample, dict):
        return [_array(name, array) for name, array in sample.items()]
    return [_column("x", sample, pd.Series(sample).dtype)]


def _array(name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    shape = list(array.shape)
    if array.dtype.kind == "M":
        array = np.datetime_as_string(array)
    return {**_column(name, array.reshape(-1).tolist(), array.dtype), "shape": shape}


def _column(name: str, values: list[Any], dtype: Any) -> dict[str, Any]:
    kind = getattr(dtype, "kind", "O")
    if kind == "b":
        datatype = "BOOL"
    elif kind in "iuf":
        datatype = {"i": "INT", "u": "UINT", "f": "FP"}[kind] + str(dtype.itemsize * 8)
    else:
        datatype = "BYTES"
        values = [v if isinstance(v, str) else json.dumps(v, cls=NumpyEncoder) for v in values]
    values = [None if isinstance(v, float) and math.isnan(v) else v for v in values]
    return {"name": name, "shape": [len(values)], "datatype": datatype, "data": values}


def check(tensor: dict[str, Any]) -> None:
    """Assert what the protocol says of an output tensor."""
    assert tensor.keys() == {"name", "shape", "datatype", "data"}
    assert isinstance(tensor["name"], str)
    shape, data = tensor["shape"], tensor["data"]
    assert shape and all(type(size) is int and size >= 0 for size in shape)
    assert len(data) == math.prod(shape)
    kind = DATATYPES[tensor["datatype"]]
    for value in data:
        # Null is this server's for a value that is missing: only where it can be.
        missing = value is None and tensor["datatype"] in ("BYTES", "FP16", "FP32", "FP64")
        assert missing or type(value) is kind, (tensor["datatype"], value)


def same(outputs: list[dict[str, Any]], predictions: Any) -> bool:
    """Whether output tensors have the values of MLflow's `predictions`."""
    if isinstance(predictions, dict):
        if len(outputs) == len(predictions):
            return all(map(_same_tensor, outputs, predictions.values()))
        return len(outputs) == 1 and _same_tensor(outputs[0], predictions)
    if len(outputs) == 1 and _same_tensor(outputs[0], predictions):
        return True
    # A DataFrame or a Series: one record for each row, one tensor for each column.
    if not isinstance(predictions, list) or not all(isinstance(row, dict) for row in predictions):
        return False
    columns = {tensor["name"]: tensor for tensor in outputs}
    return bool(predictions) and all(
        len(columns) == len(row)
        and all(map(_same_value, (tensor["data"][n] for tensor in columns.values()), row.values()))
        for n, row in enumerate(predictions)
    )


def _same_tensor(tensor: dict[str, Any], expected: Any) -> bool:
    """By shape, or, for an answer that is no array, element by element."""
    expected = expected if isinstance(expected, list) else [expected]
    flat = expected
    for size in tensor["shape"][1:]:
        if not all(isinstance(row, list) and len(row) == size for row in flat):
            return False
        flat = [value for row in flat for value in row]
    return len(flat) == len(tensor["data"]) and all(map(_same_value, tensor["data"], flat))


def _same_value(value: Any, expected: Any) -> bool:
    if value == expected and isinstance(value, bool) is isinstance(expected, bool):
        return True
    if expected in (None, "NaT") or (isinstance(expected, float) and not math.isfinite(expected)):
        return value is None
    if isinstance(value, str):
        if isinstance(expected, str):
            return value == expected.replace("\n", "") or _date(value) == _date(expected)
        try:
            return bool(json.loads(value) == expected)
        except ValueError:  # nanoseconds, which MLflow answers for the nanoseconds of numpy
            return isinstance(expected, int) and pd.Timestamp(value).as_unit("ns").value == expected
    return False


def _date(text: str) -> Any:
    try:
        return pd.Timestamp(text)
    except ValueError:
        return text
