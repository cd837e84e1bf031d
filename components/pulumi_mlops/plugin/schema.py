"""The schema that the plugin publishes, derived from its handlers."""

from __future__ import annotations

import json
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from ..provider_settings import ProviderSettings
from .handler import Handler

_ANY: dict[str, Any] = {"$ref": "pulumi.json#/Any"}
_NAMES = {bool: "boolean", int: "number", float: "number", str: "string"}


def schema_of(handlers: list[Handler[Any]], version: str) -> str:
    """The package schema as JSON. Source: pulumi.com, "Pulumi Package Schema"."""
    return json.dumps(
        {
            "name": "mlops",
            "version": version,
            "description": "Resources of a machine-learning platform that no other provider has",
            "license": "Apache-2.0",
            "config": {
                "variables": {
                    field.alias or name: {
                        **_type_of(field.annotation),
                        "description": field.description,
                    }
                    for name, field in ProviderSettings.model_fields.items()
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
        if key in handler.replace_on:
            inputs[key]["willReplaceOnChanges"] = True
        if info.is_required():
            required.append(key)
    outputs = {
        name: {
            **_type_of(output.type),
            "description": output.description,
            **({"secret": True} if output.secret else {}),
        }
        for name, output in handler.outputs.items()
    }
    return {
        "description": handler.description,
        "inputProperties": inputs,
        "requiredInputs": required,
        "properties": {**inputs, **outputs},
        "required": [*required, *outputs],
    }


def _type_of(annotation: Any) -> dict[str, Any]:
    """The schema of a type annotation. `X | None` and `OrUnknown[X]` have the schema of X."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Annotated, Union, UnionType}:
        return _type_of(next(each for each in arguments if each is not type(None)))
    match origin or annotation:
        case kind if kind is Literal:
            schema: dict[str, Any] = {"type": "string"}
        case kind if kind is dict:
            schema = {"type": "object", "additionalProperties": _type_of(arguments[1])}
        case kind if kind is list:
            schema = {"type": "array", "items": _type_of(arguments[0])}
        case kind if kind in _NAMES:
            schema = {"type": _NAMES[kind]}
        case type() as kind if issubclass(kind, BaseModel):
            schema = {"type": "object", "additionalProperties": _ANY}
        case _:
            schema = _ANY
    return schema
