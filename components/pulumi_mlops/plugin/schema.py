"""The schema that the plugin publishes, derived from its handlers."""

from __future__ import annotations

import json
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from .handler import Handler

_TYPES: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "object": {"type": "object", "additionalProperties": {"$ref": "pulumi.json#/Any"}},
    "array": {"type": "array", "items": {"$ref": "pulumi.json#/Any"}},
}
_NAMES: dict[Any, str] = {
    dict: "object",
    list: "array",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
}


def schema_of(handlers: list[Handler[Any]], version: str) -> str:
    """The package schema as JSON (pulumi.com's package schema, version 1)."""
    return json.dumps(
        {
            "name": "mlops",
            "version": version,
            "description": "What a machine-learning platform needs and no other provider has",
            "license": "Apache-2.0",
            "config": {
                "variables": {
                    "dataDir": {
                        "type": "string",
                        "description": "Where local resources keep their files; "
                        "`.mlops` beside Pulumi.yaml unless told.",
                    }
                }
            },
            "resources": {handler.token: _resource(handler) for handler in handlers},
        },
        indent=2,
        sort_keys=True,
    )


def _resource(handler: Handler[Any]) -> dict[str, Any]:
    inputs = {}
    required = []
    for name, info in handler.inputs.model_fields.items():
        key = info.alias or name
        inputs[key] = {**_type_of(info.annotation), "description": info.description or ""}
        if key in handler.secret_inputs:
            inputs[key]["secret"] = True
        if info.is_required():
            required.append(key)
    outputs = {
        name: {**_TYPES[kind], **({"secret": True} if name in handler.secret_outputs else {})}
        for name, kind in handler.outputs.items()
    }
    return {
        "description": handler.description,
        "inputProperties": inputs,
        "requiredInputs": required,
        "properties": {**inputs, **outputs},
        "required": [*required, *outputs],
    }


def _type_of(annotation: Any) -> dict[str, Any]:
    """The schema of an annotation: of `X | None` and `Known[X]` it is that of X."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_of(arguments[0])
    if origin in {Union, UnionType}:
        (inner, *_) = [each for each in arguments if each is not type(None)]
        return _type_of(inner)
    if origin is Literal:
        return _TYPES["string"]
    kind = origin or annotation
    if kind in _NAMES:
        return _TYPES[_NAMES[kind]]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _TYPES["object"]
    return {"$ref": "pulumi.json#/Any"}
