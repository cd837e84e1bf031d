"""V2 tensors to what the model takes, with messages that say which input is wrong and how.

Source: the Open Inference Protocol's REST definition, "Inference Request JSON Object",
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

import numpy as np
import orjson
import pandas as pd

from pulumi_mlops.runtime.model_server.frames import block_of
from pulumi_mlops.runtime.model_server.http import RequestError
from pulumi_mlops.runtime.model_server.payload import json_value
from pulumi_mlops.runtime.model_server.signature import (
    DATATYPES,
    FLOATS,
    INTEGERS,
    Input,
    Signature,
)

JSON_NAMES = {str: "text", bool: "a boolean", int: "an integer", float: "a number"}


class TensorReader:
    """Reads the ``inputs`` of V2 requests for one signature."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._by_name = {item.name: item for item in signature.inputs}
        self._required = [item.name for item in signature.inputs if item.required]
        self._accepted = {item.name: item.accepted for item in signature.inputs}
        self._block = block_of(signature)
        self._columns = [item.name for item in signature.inputs]

    def read(self, tensors: Any) -> tuple[Any, dict[str, Any] | None]:
        """The data to pass to ``predict``, and its values by column where that comes for free.

        Raises RequestError 400.
        """
        if not isinstance(tensors, list) or not tensors:
            raise RequestError(400, "inputs: expected a list with at least one tensor")
        named: dict[str, dict[str, Any]] = {}
        for index, tensor in enumerate(tensors):
            name = _check_tensor(tensor, index)
            if name in named:
                raise RequestError(400, f"inputs: '{name}' is given twice")
            named[name] = tensor
        if not self._signature.inputs:
            return _without_signature(named), None
        if self._signature.raw or not self._signature.named:
            return self._unnamed(named), None
        if self._is_matrix(named):
            return self._matrix(next(iter(named.values()))), None
        return self._named(named)

    def _named(self, named: dict[str, dict[str, Any]]) -> tuple[Any, dict[str, Any] | None]:
        expected = self._signature.describe_inputs()
        if missing := [name for name in self._required if name not in named]:
            raise RequestError(
                400, f"inputs: {_names(missing)} missing; got {_names(named)}, expected {expected}"
            )
        if unknown := [name for name in named if name not in self._by_name]:
            raise RequestError(400, f"inputs: {_names(unknown)} unknown; expected {expected}")
        values = {name: self._value(self._by_name[name], t) for name, t in named.items()}
        if not self._signature.tabular:
            return values, None
        lengths = {name: len(value) for name, value in values.items()}
        rows = next(iter(lengths.values()))
        if any(length != rows for length in lengths.values()):
            raise RequestError(400, f"inputs: columns differ in their number of rows: {lengths}")
        if self._block is not None:
            return self._block.frame(values, rows), values
        ordered = {name: values[name] for name in self._columns if name in values}
        frame = pd.DataFrame(ordered)
        frame.columns = pd.Index([self._by_name[name].key for name in ordered])
        return frame, ordered

    def _is_matrix(self, named: dict[str, dict[str, Any]]) -> bool:
        """One two-dimensional numeric tensor in place of one tensor per column."""
        if len(named) != 1 or not self._signature.tabular:
            return False
        tensor = next(iter(named.values()))
        return (
            len(tensor["shape"]) == 2
            and tensor["shape"][1] == len(self._signature.inputs)
            and (len(self._signature.inputs) > 1 or tensor["name"] not in self._by_name)
        )

    def _matrix(self, tensor: dict[str, Any]) -> pd.DataFrame:
        if len({item.datatype for item in self._signature.inputs}) > 1:
            raise RequestError(
                400,
                f"inputs: '{tensor['name']}' is one matrix, but the columns differ in type; send "
                f"one tensor per column: {self._signature.describe_inputs()}",
            )
        first = self._signature.inputs[0]
        as_column = Input(tensor["name"], first.kind, first.datatype, (-1, len(self._columns)))
        matrix = self._value(as_column, tensor)
        if self._block is not None:
            return self._block.from_matrix(matrix)
        names = [item.key for item in self._signature.inputs] if self._signature.named else None
        return pd.DataFrame(matrix, columns=names)

    def _unnamed(self, named: dict[str, dict[str, Any]]) -> Any:
        """A signature without names: a single array, or columns by their position."""
        inputs = self._signature.inputs
        if not self._signature.raw and self._is_matrix(named):
            return self._matrix(next(iter(named.values())))
        if len(named) != len(inputs):
            raise RequestError(
                400, f"inputs: expected {len(inputs)} tensor(s), got {len(named)}: {_names(named)}"
            )
        pairs = list(zip(inputs, named.values(), strict=True))
        if self._signature.raw:
            return _plain_value(*pairs[0])
        values = [self._value(item, tensor) for item, tensor in pairs]
        return pd.DataFrame(dict(enumerate(values))) if self._signature.tabular else values[0]

    def _value(self, item: Input, tensor: dict[str, Any]) -> Any:
        accepted = self._accepted.get(item.name) or item.accepted
        if tensor["datatype"] not in accepted:
            raise RequestError(
                400,
                f"inputs: '{tensor['name']}' is {tensor['datatype']}, expected {item.datatype} "
                f"({item.kind})",
            )
        if item.datatype != "BYTES":
            return _array(item, tensor, accepted)
        texts = _flat(tensor)
        if not item.nested:
            for row, value in enumerate(texts):
                if not (isinstance(value, str) or value is None):
                    raise _bad_element(item, tensor, row, value)
        if not self._signature.tabular:
            return _text_array(item, texts).reshape(_checked_shape(item, tensor))
        return [_from_text(item, row, value) for row, value in enumerate(texts)]


def _check_tensor(tensor: Any, index: int) -> str:
    """The tensor's name, once it has the members that V2 requires."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise RequestError(400, f"inputs[{index}]: expected an object with 'name'")
    name: str = tensor["name"]
    if tensor.get("datatype") not in DATATYPES:
        raise RequestError(
            400,
            f"inputs: '{name}' has datatype {tensor.get('datatype')!r}; allowed are "
            f"{', '.join(sorted(DATATYPES))}",
        )
    shape = tensor.get("shape")
    if (
        not isinstance(shape, list)
        or not shape
        or not all(type(size) is int and size >= 0 for size in shape)
    ):
        raise RequestError(
            400, f"inputs: '{name}' has shape {shape!r}; expected as in [1] or [8, 4]"
        )
    if not isinstance(tensor.get("data"), list):
        raise RequestError(
            400, f"inputs: '{name}' has no 'data' list (binary data is not supported)"
        )
    if 0 in shape:
        raise RequestError(400, f"inputs: '{name}' is empty (shape {shape})")
    return name


def _array(item: Input, tensor: dict[str, Any], accepted: frozenset[str]) -> np.ndarray[Any, Any]:
    """Numbers or booleans, of the model's own type, in the shape that the model wants."""
    try:
        array = np.array(tensor["data"])
    except ValueError:  # lists of unequal length
        array = np.array(_flat(tensor), dtype=object)
    allowed = "iuf" if item.datatype in FLOATS else "iu" if item.datatype in INTEGERS else "b"
    # numpy makes 1 of a true between numbers, without a word.
    hidden = allowed != "b" and bool in set(map(type, _flat(tensor)))
    if hidden or array.dtype.kind not in allowed:
        # null stands for a missing value, which only floats have.
        kinds = (int, float, type(None)) if "f" in allowed else (int,)
        for row, value in enumerate(_flat(tensor)):
            is_bool = isinstance(value, bool)
            if is_bool is not (allowed == "b") or not isinstance(value, (bool, *kinds)):
                raise _bad_element(item, tensor, row, value)
    shape = _checked_shape(item, tensor, array.size)
    if item.datatype in INTEGERS and array.dtype.kind in "iu":
        bounds = np.iinfo(item.dtype)
        if array.min() < bounds.min or array.max() > bounds.max:
            raise RequestError(
                400, f"inputs: '{tensor['name']}' has values outside {item.datatype} ({item.kind})"
            )
    try:
        return array.astype(item.dtype, copy=False).reshape(shape)
    except (OverflowError, ValueError, TypeError):
        raise RequestError(
            400, f"inputs: '{tensor['name']}' has values that are no {item.datatype} ({item.kind})"
        ) from None


def _checked_shape(item: Input, tensor: dict[str, Any], size: int | None = None) -> tuple[int, ...]:
    """The shape to give to the model; raises when the tensor's does not fit."""
    shape = tuple(tensor["shape"])
    if size is None:
        size = len(_flat(tensor))
    if math.prod(shape) != size:
        raise RequestError(
            400, f"inputs: '{tensor['name']}' has shape {list(shape)} but {size} values"
        )
    wanted = item.shape
    if wanted == (-1,) and len(shape) == 2 and shape[1] == 1:
        return (shape[0],)  # a column, as V2 clients with a batch dimension send it
    fits = len(shape) == len(wanted) and all(
        w in (-1, s) for w, s in zip(wanted, shape, strict=True)
    )
    if not fits:
        raise RequestError(
            400,
            f"inputs: '{tensor['name']}' has shape {list(shape)}, expected {list(wanted)} "
            "(-1 is any size)",
        )
    return shape


def _from_text(item: Input, row: int, value: Any) -> Any:
    """An element of a BYTES column as the signature's type."""
    if value is None:
        return None
    try:
        if item.nested:
            return json_value(value) if isinstance(value, str) else value
        if item.kind == "datetime":
            return pd.Timestamp(value)
        if item.kind == "binary":
            return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        if item.kind == "Any":
            return value
        form = {"datetime": "ISO 8601 text", "binary": "base64"}.get(item.kind, "JSON text")
        raise RequestError(
            400, f"inputs: '{item.name}' row {row} is {_show(value)}, expected {form}"
        ) from None
    return value


def _flat(tensor: dict[str, Any]) -> list[Any]:
    """The data as a flat list: V2 lets clients nest it by the shape."""
    data = tensor["data"]
    for _ in range(len(tensor["shape"]) - 1):
        if not data or not isinstance(data[0], list):
            break
        data = [value for part in data for value in (part if isinstance(part, list) else [part])]
    return list(data)


def _plain_value(item: Input, tensor: dict[str, Any]) -> Any:
    """The value of a model with type hints: nested by the tensor's shape, elements from JSON."""
    values = _flat(tensor)
    size = math.prod(tensor["shape"])
    if len(values) != size:
        raise RequestError(
            400, f"inputs: '{tensor['name']}' has shape {tensor['shape']} but {len(values)} values"
        )
    if item.nested and tensor["datatype"] == "BYTES":
        values = [_from_text(item, row, value) for row, value in enumerate(values)]
    for length in reversed(tensor["shape"][1:]):
        values = [values[start : start + length] for start in range(0, len(values), length)]
    return values


def _text_array(item: Input, texts: list[Any]) -> np.ndarray[Any, Any]:
    """Text in the numpy type of the signature, which may be one of dates or of bytes."""
    array = np.array(texts, dtype=object)
    if item.numpy_type is None or item.numpy_type.kind not in "USM":
        return array
    try:
        return array.astype(item.numpy_type)
    except ValueError as error:
        raise RequestError(400, f"inputs: '{item.name}' is not {item.kind}: {error}") from None


def _without_signature(named: dict[str, dict[str, Any]]) -> Any:
    """One tensor of text, or of several dimensions, as an array; other tensors as columns.

    That is what a model without a signature takes as `inputs` of MLflow's protocol. Libraries
    read a DataFrame of one text column as one text: its name.
    """
    arrays = {
        name: _array(
            Input(name, "no signature", tensor["datatype"], tuple(tensor["shape"])),
            tensor,
            DATATYPES,
        )
        if tensor["datatype"] != "BYTES"
        else _texts(tensor)
        for name, tensor in named.items()
    }
    if len(arrays) == 1:
        only = next(iter(arrays.values()))
        if only.ndim > 1 or only.dtype.kind in "OU":
            return only
    if (
        len({array.shape for array in arrays.values()}) == 1
        and next(iter(arrays.values())).ndim == 1
    ):
        return pd.DataFrame(arrays)
    return arrays


def _texts(tensor: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Text without a signature, in the type that MLflow gives to it."""
    values = _flat(tensor)
    plain = all(isinstance(value, str) for value in values)
    array = np.array(values) if plain else np.array(values, dtype=object)
    item = Input(tensor["name"], "no signature", "BYTES", tuple(tensor["shape"]))
    return array.reshape(_checked_shape(item, tensor))


def _bad_element(item: Input, tensor: dict[str, Any], row: int, value: Any) -> RequestError:
    kind = JSON_NAMES.get(type(value), "null" if value is None else "a nested value")
    return RequestError(
        400,
        f"inputs: '{tensor['name']}' element {row} is {_show(value)} ({kind}), expected "
        f"{item.datatype} ({item.kind})",
    )


def _names(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _show(value: Any) -> str:
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= 40 else text[:37] + "..."
