"""The inputs of a configuration that may be secrets: those declared as SecretText."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pulumi
from pydantic import BaseModel

from .spec import SECRET_TEXT


def secret_places(annotation: Any) -> list[str]:
    """Dotted paths of the inputs that are a SecretText or a map of them, such as
    `artifacts.access_key_id`. `*` stands for a key of a map of models."""
    return [".".join(path) for path in _places(annotation)]


def with_secrets(annotation: Any, value: Any) -> Any:
    """`value`, in which each text that is declared as a SecretText is a secret Output."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated and SECRET_TEXT in arguments:
        return pulumi.Output.secret(value) if isinstance(value, str) else value
    if origin in (Annotated, Union, UnionType):
        for each in arguments[:1] if origin is Annotated else arguments:
            value = with_secrets(each, value)
    elif isinstance(value, list) and origin is list:
        value = [with_secrets(arguments[0], item) for item in value]
    elif isinstance(value, dict):
        inputs = _inputs(annotation)
        value = {
            key: with_secrets(arguments[1] if origin is dict else inputs.get(key), item)
            for key, item in value.items()
        }
    return value


def _places(annotation: Any, path: Sequence[str] = ()) -> Iterator[Sequence[str]]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        if SECRET_TEXT in arguments:
            yield path
        else:
            yield from _places(arguments[0], path)
    elif origin is dict:
        is_model = bool(_inputs(arguments[1]))
        yield from _places(arguments[1], [*path, "*"] if is_model else path)
    elif origin in (Union, UnionType, list):
        for each in arguments:
            yield from _places(each, path)
    else:
        for name, inner in _inputs(annotation).items():
            yield from _places(inner, [*path, name])


def _inputs(annotation: Any) -> dict[str, Any]:
    """The annotations of the inputs of a model, with their metadata. Empty for any other type."""
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return {}
    return {
        name: Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        for name, field in annotation.model_fields.items()
    }
