"""A model's signature in the terms of the Open Inference Protocol: named, typed tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pulumi_mlops.runtime.model_server.mlflow_compat import (
    ColSpec,
    DataType,
    Schema,
    TensorSpec,
    is_required,
)

FLOATS = frozenset({"FP16", "FP32", "FP64"})
SIGNED = frozenset({"INT8", "INT16", "INT32", "INT64"})
UNSIGNED = frozenset({"UINT8", "UINT16", "UINT32", "UINT64"})
INTEGERS = SIGNED | UNSIGNED
NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "FP16": np.dtype(np.float16),
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
DATATYPES = frozenset(NUMPY_TYPES)
DATATYPE_OF: dict[np.dtype[Any], str] = {dtype: name for name, dtype in NUMPY_TYPES.items()}

# MLflow's column types (https://mlflow.org/docs/latest/ml/model/signatures) as V2 datatypes.
# Datetimes travel as ISO 8601 text, binary as base64, nested types as JSON text.
COLUMN_DATATYPES = {
    DataType.boolean: "BOOL",
    DataType.integer: "INT32",
    DataType.long: "INT64",
    DataType.float: "FP32",
    DataType.double: "FP64",
}


@dataclass(frozen=True, slots=True)
class Input:
    """One input (or output) of a model.

    ``name`` is the name in V2 requests. ``key`` is the name in the signature: text, an integer (a
    DataFrame without names has 0, 1, ...), or None. ``kind`` is the signature's own type name, for
    messages. ``shape`` has -1 where any size goes; a column is ``(-1,)``. ``nested`` marks MLflow's
    Array, Object, Map and Any types.
    """

    name: str
    kind: str
    datatype: str
    shape: tuple[int, ...]
    required: bool = True
    nested: bool = False
    key: str | int | None = None
    numpy_type: np.dtype[Any] | None = None  # of a tensor

    @property
    def accepted(self) -> frozenset[str]:
        """The datatypes a client may send: those that convert without loss of meaning."""
        if self.datatype in FLOATS:
            return FLOATS | INTEGERS
        if self.datatype in INTEGERS:
            return INTEGERS
        return frozenset({self.datatype})

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type that the model wants."""
        return NUMPY_TYPES[self.datatype]

    def describe(self) -> str:
        """``'age' FP64 (double)``; the name of a column may be an integer: ``0 FP64 (double)``."""
        name = self.name if self.key is None else self.key
        return f"{name!r} {self.datatype} ({self.kind})"


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a model; both are empty when it was logged without a signature.

    ``tabular``: the model takes a DataFrame (a column-based signature, or none at all);
    ``named``: inputs have names; ``raw``: it takes the JSON value as it is (type hints).
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Input, ...]
    tabular: bool
    named: bool
    raw: bool
    params: frozenset[str]
    input_schema: Schema | None
    output_schema: Schema | None

    @property
    def discrete(self) -> bool:
        """Whether the model answers one class a row: a single text, boolean or integer output."""
        if len(self.outputs) != 1:
            return False
        output = self.outputs[0]
        return (
            len(output.shape) == 1
            and not output.nested
            and output.datatype not in FLOATS
            and output.kind not in ("datetime", "binary")
        )

    def describe_inputs(self) -> str:
        """The expected inputs as one phrase, for messages."""
        return ", ".join(
            item.describe() + ("" if item.required else " optional") for item in self.inputs
        )


def read_signature(metadata: Any) -> Signature:
    """The signature of a loaded model's metadata (``mlflow.models.Model``)."""
    inputs, outputs = metadata.get_input_schema(), metadata.get_output_schema()
    params = metadata.get_params_schema()
    return Signature(
        inputs=_items(inputs, "input"),
        outputs=_items(outputs, "prediction"),
        tabular=inputs is None or not inputs.is_tensor_spec(),
        named=inputs is None or inputs.has_input_names(),
        raw=_from_type_hints(metadata),
        params=frozenset(param.name for param in params.params) if params else frozenset(),
        input_schema=inputs,
        output_schema=outputs,
    )


def _from_type_hints(metadata: Any) -> bool:
    """Whether the signature comes from Python type hints, which MLflow has from 2.20.

    Such a model validates the plain JSON value itself. MLflow keeps the flag in the model's
    metadata; the signature's own `to_dict()` does not have it.
    """
    function = getattr(metadata, "_is_signature_from_type_hint", None)
    return bool(function and function())


def _items(schema: Schema | None, prefix: str) -> tuple[Input, ...]:
    if schema is None:
        return ()
    single = len(schema.inputs) == 1
    return tuple(
        _item(spec, (prefix if single else f"{prefix}-{index}") if spec.name is None else spec.name)
        for index, spec in enumerate(schema.inputs)
    )


def _item(spec: ColSpec | TensorSpec, own_name: str | int) -> Input:
    name = str(own_name)
    if isinstance(spec, TensorSpec):
        datatype = DATATYPE_OF.get(spec.type, "BYTES")
        kind = f"{spec.type} tensor"
        return Input(
            name,
            kind,
            datatype,
            tuple(spec.shape),
            is_required(spec),
            key=spec.name,
            numpy_type=spec.type,
        )
    required = is_required(spec)
    if isinstance(spec.type, DataType):
        datatype = COLUMN_DATATYPES.get(spec.type, "BYTES")
        return Input(name, spec.type.name, datatype, (-1,), required, key=spec.name)
    return Input(name, str(spec.type), "BYTES", (-1,), required, nested=True, key=spec.name)
