"""Model outputs as JSON, as V2 tensors and as classes."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import orjson
import pandas as pd

from pulumi_mlops.runtime.model_server.http import RequestError
from pulumi_mlops.runtime.model_server.mlflow_compat import NumpyEncoder
from pulumi_mlops.runtime.model_server.signature import DATATYPE_OF, FLOATS, Signature

# The rest is for MLflow's encoder: orjson rounds float32 values otherwise.
ORJSON_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
_encoder = NumpyEncoder()


def to_json(value: Any) -> bytes:
    """JSON with MLflow's own rules for numpy, pandas, dates and bytes; NaN is null, as in JSON.

    Raises RequestError 500 for what JSON does not have.
    """
    try:
        return orjson.dumps(value, default=_default, option=ORJSON_OPTIONS)
    except TypeError as error:
        reason = error
    try:  # integers over 64 bits and lone surrogates
        text = json.dumps(value, default=_default)
        return json.dumps(json.loads(text, parse_constant=lambda _: None)).encode()
    except (TypeError, ValueError, RecursionError):
        raise RequestError(500, f"the model's answer is not JSON: {reason}") from None


def _default(value: Any) -> Any:
    return None if value is pd.NA else _encoder.default(value)  # type: ignore[no-untyped-call]


def predictions(raw: Any) -> Any:
    """A model's output as MLflow's ``predictions``: a list of values, or of one record a row."""
    if isinstance(raw, np.ndarray):
        return raw.tolist()
    if isinstance(raw, pd.Series):
        raw = raw.to_frame()
    if isinstance(raw, pd.DataFrame):
        return raw.to_dict(orient="records")
    return raw


def inputs_by_column(data: Any) -> Any:
    """A request's data as the prediction log keeps it: by column where there are names."""
    if isinstance(data, pd.DataFrame):
        return {str(name): data[name].tolist() for name in data.columns}
    if isinstance(data, np.ndarray):
        return data.tolist()
    return data


def classes(raw: Any) -> list[Any]:
    """The predicted class of each row, for a model that predicts classes."""
    if isinstance(raw, pd.DataFrame):
        raw = raw.iloc[:, 0]
    values = raw.tolist() if isinstance(raw, np.ndarray | pd.Series) else raw
    rows = values if isinstance(values, list) else [values]
    return [] if any(isinstance(row, dict | list) for row in rows) else rows


def row_count(value: Any) -> int | None:
    """The rows of an input or output; None for a value that has no rows."""
    if isinstance(value, dict):
        value = next(iter(value.values()), None)
    if isinstance(value, np.ndarray):
        return len(value) if value.ndim else None
    if isinstance(value, list) and any(getattr(item, "ndim", 0) > 1 for item in value):
        return None  # one matrix for each of several outputs
    return len(value) if isinstance(value, pd.DataFrame | pd.Series | list) else None


def rows_differ(raw: Any, data: Any) -> str | None:
    """Why an output does not have a row for each row of the input; None if it does."""
    expected, got = row_count(data), row_count(raw)
    if expected is None or got is None or expected == got or isinstance(raw, dict):
        return None
    return f"the model's answer has {got} rows, the request has {expected}"


def to_tensors(raw: Any, signature: Signature) -> list[dict[str, Any]]:
    """A model's output as V2 output tensors, flat and in row-major order.

    A DataFrame or a dict gives one tensor per column; anything else is one tensor, named as in
    the signature or ``prediction``.
    """
    if isinstance(raw, pd.DataFrame):
        columns = [raw.iloc[:, index] for index in range(raw.shape[1])]
        return [_tensor(str(column.name), _to_array(column)) for column in columns]
    if isinstance(raw, dict):
        return [_tensor(str(name), _to_array(value)) for name, value in raw.items()]
    name = signature.outputs[0].name if len(signature.outputs) == 1 else "prediction"
    return [_tensor(name, _to_array(raw))]


def _to_array(value: Any) -> np.ndarray[Any, Any]:
    """An array with one of V2's types, where there is one for all values; else of objects."""
    if isinstance(value, np.ndarray):
        array = value
    elif isinstance(value, pd.Series | pd.Index):
        array = np.asarray(value)
    else:
        rows = list(value) if isinstance(value, list | tuple) else [value]
        matrix = _matrix(rows) if _nested(rows) else None
        if matrix is not None:
            return matrix
        array = np.empty(len(rows), dtype=object)
        array[:] = rows
    return _typed(array) if array.dtype == object else array


def _nested(rows: list[Any]) -> bool:
    return bool(rows) and all(isinstance(row, list | tuple | np.ndarray) for row in rows)


def _matrix(rows: list[Any]) -> np.ndarray[Any, Any] | None:
    """Rows of equal length as one array of numbers, or None."""
    try:
        array = np.array(rows)
    except ValueError:
        return None
    return array if array.dtype.kind in "biuf" else None


def _typed(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array of objects with their common type: booleans, integers, or numbers and null."""
    kinds = set(map(type, array.flat))
    floats = {float, np.float64, np.float32, np.float16, type(None), type(pd.NA)}
    integers = {int, *(np.dtype(name).type for name in ("i1", "i2", "i4", "i8", "u1", "u2", "u4"))}
    if not kinds or kinds <= {type(None)}:
        return array
    if kinds <= {bool, np.bool_}:
        return array.astype(bool)
    try:
        if kinds <= integers:
            return array.astype(np.int64)
        if kinds <= floats:
            missing = np.frompyfunc(lambda item: item is None or item is pd.NA, 1, 1)(array)
            return np.where(missing.astype(bool), np.nan, array).astype(np.float64)
    except OverflowError:
        pass
    return array


def _tensor(name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    if array.dtype.kind in "iuf" and array.dtype not in DATATYPE_OF:
        # Another byte order, or more bits than V2 has.
        size = min(array.dtype.itemsize, 8)
        array = array.astype(f"{array.dtype.kind}{size}")
    datatype = DATATYPE_OF.get(array.dtype, "BYTES")
    if array.dtype.kind == "M":
        data = [None if text == "NaT" else text for text in _dates(array.reshape(-1))]
    elif datatype == "BYTES":
        data = [_to_text(value) for value in array.reshape(-1).tolist()]
    else:
        data = array.reshape(-1).tolist()
    return {"name": name, "shape": list(array.shape) or [1], "datatype": datatype, "data": data}


def _dates(array: np.ndarray[Any, Any]) -> list[str]:
    """ISO 8601, whatever the unit: numpy has nanoseconds as integers, other units as datetimes."""
    texts: list[str] = np.datetime_as_string(array).tolist()
    return [text.rstrip("0").rstrip(".") if "." in text else text for text in texts]


def _to_text(value: Any) -> Any:
    """Text as it is, bytes as base64, as in requests; other values (nested, dates) as JSON."""
    if isinstance(value, str) or value is None or value is pd.NA or value is pd.NaT:
        return value if isinstance(value, str) else None
    if isinstance(value, float) and math.isnan(value):
        return None  # pandas has NaN for a missing text
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    text = to_json(value).decode()
    return json.loads(text) if text.startswith('"') else text


def select(tensors: list[dict[str, Any]], wanted: Any) -> list[dict[str, Any]]:
    """Only the outputs that a V2 request asks for by ``outputs``."""
    if not wanted:
        return tensors
    by_name = {tensor["name"]: tensor for tensor in tensors}
    names = [item.get("name") if isinstance(item, dict) else item for item in wanted]
    for name in names:
        if name not in by_name:
            raise RequestError(
                400, f"outputs: {name!r} is not an output of this model; it has {list(by_name)}"
            )
    return [by_name[name] for name in names]


def misfit(raw: Any, signature: Signature) -> str | None:
    """Why an output does not match the signature's output schema; None if it does."""
    if not signature.outputs or signature.raw:
        return None
    tensors = to_tensors(raw, signature)
    expected = signature.outputs
    schema = signature.output_schema
    named = isinstance(raw, pd.DataFrame | dict) and schema is not None and schema.has_input_names()
    if len(tensors) != len(expected):
        return f"{len(tensors)} outputs, the signature has {len(expected)}"
    for tensor, output in zip(tensors, expected, strict=True):
        if named and tensor["name"] != output.name:
            return f"output '{tensor['name']}', the signature has '{output.name}'"
        if not output.nested and _family(tensor["datatype"]) != _family(output.datatype):
            return (
                f"output '{output.name}' is {tensor['datatype']}, the signature has "
                f"{output.datatype} ({output.kind})"
            )
        shape, wanted = tensor["shape"], output.shape
        if len(wanted) > 1 and (
            len(shape) != len(wanted)
            or any(w not in (-1, s) for w, s in zip(wanted, shape, strict=True))
        ):
            return f"output '{output.name}' has shape {shape}, the signature has {list(wanted)}"
    return None


def _family(datatype: str) -> str:
    if datatype in FLOATS:
        return "float"
    return "integer" if "INT" in datatype else datatype
