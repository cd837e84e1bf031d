"""Model outputs as JSON, as V2 tensors and as classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pandas as pd

from pulumi_mlops.runtime.model_server.http import RequestError
from pulumi_mlops.runtime.model_server.mlflow_compat import NumpyEncoder
from pulumi_mlops.runtime.model_server.signature import DATATYPE_OF, FLOATS, Signature

ORJSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_encoder = NumpyEncoder()


def to_json(value: Any) -> bytes:
    """JSON with MLflow's own rules for numpy, pandas, dates and bytes; NaN is null, as in JSON."""
    return orjson.dumps(value, default=_encoder.default, option=ORJSON_OPTIONS)


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
    return values if isinstance(values, list) else [values]


def to_tensors(raw: Any, signature: Signature) -> list[dict[str, Any]]:
    """A model's output as V2 output tensors, flat and in row-major order.

    A DataFrame or a dict gives one tensor per column; anything else is one tensor, named as in
    the signature or ``prediction``.
    """
    if isinstance(raw, pd.DataFrame):
        return [_tensor(str(name), raw[name].to_numpy()) for name in raw.columns]
    if isinstance(raw, dict):
        return [_tensor(str(name), _to_array(value)) for name, value in raw.items()]
    name = signature.outputs[0].name if len(signature.outputs) == 1 else "prediction"
    return [_tensor(name, _to_array(raw))]


def _to_array(value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, pd.Series):
        return np.asarray(value)
    rows = value if isinstance(value, list) else [value]
    if any(isinstance(row, dict | list) for row in rows):
        try:
            array = np.array(rows)
        except ValueError:
            array = np.array(None)
        if array.dtype.kind in "biuf" and array.ndim:
            return array
        nested = np.empty(len(rows), dtype=object)
        nested[:] = rows
        return nested
    return np.array(rows)


def _tensor(name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    datatype = DATATYPE_OF.get(array.dtype)
    flat = array.reshape(-1)
    data: list[Any]
    if datatype is None or datatype == "BYTES":
        datatype = "BYTES"
        data = [_to_text(value) for value in flat.tolist()]
    else:
        data = flat.tolist()
    shape = list(array.shape) or [1]
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def _to_text(value: Any) -> Any:
    """Text as it is; other values (nested ones, dates) as their JSON."""
    if isinstance(value, str) or value is None:
        return value
    text = to_json(value).decode()
    return text[1:-1] if text.startswith('"') else text


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
