"""Declared inputs and outputs, read from pydantic models for the generated files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pulumi
from pydantic import BaseModel, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pulumi_mlops import spec
from pulumi_mlops.plugin import values

_KNOWN = (*spec.OrOutput.__metadata__, *values.OrUnknown.__metadata__)
_DEFAULT = re.compile(r"\s*\bDefault: (?P<default>.*)\.$", re.DOTALL)
_NUMBERS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", Any: "any"}


@dataclass(frozen=True)
class Type:
    """The type of an input: `kind`, and what belongs to it.

    Kinds: string, integer, number, boolean, any, literal (`literals`), list and map (`items` has
    one), union (`items`), model and component (`cls`), secret (a SecretText).
    """

    kind: str
    items: tuple[Type, ...] = ()
    literals: tuple[str, ...] = ()
    cls: type | None = None
    output: bool = False
    """Whether an Output is allowed, whose value is not known yet."""
    bounds: tuple[str, ...] = ()

    def models(self) -> Iterator[type[BaseModel]]:
        """The models in it, from outside to inside."""
        if self.kind == "model" and self.cls is not None:
            yield self.cls
        for item in self.items:
            yield from item.models()


@dataclass(frozen=True)
class Field:
    """One declared input or output."""

    name: str
    type: Type
    text: str
    """The description without its default."""
    required: bool = False
    default: str = ""
    """As text of Markdown. Empty for a required input and for an output."""
    secret: bool = False
    replaces: bool = False
    state_only: bool = False

    @property
    def bounds(self) -> str:
        """The allowed values, as text of Markdown; empty without bounds."""
        return ", ".join(self.type.bounds)


def fields_of(model: type[BaseModel]) -> list[Field]:
    """The inputs of a model, required ones first."""
    found = [_field(info.alias or name, info) for name, info in model.model_fields.items()]
    return sorted(found, key=lambda field: not field.required)


def _field(name: str, info: FieldInfo) -> Field:
    description = info.description or ""
    if not description:
        raise ValueError(f"{name}: has no description")
    stated = _DEFAULT.search(description)
    required = info.is_required()
    default = info.get_default(call_default_factory=True)
    if default is None and not stated:
        raise ValueError(f"{name}: its description must end with `Default: ….`")
    if default is not None and default is not PydanticUndefined and stated:
        raise ValueError(f"{name}: its description repeats the default, which is generated")
    return Field(
        name=name,
        type=type_of(info.annotation, tuple(info.metadata)),
        text=description[: stated.start()] if stated else description,
        required=required,
        default="" if required else stated["default"] if stated else _literal(default),
    )


def _literal(default: Any) -> str:
    if isinstance(default, BaseModel):
        return "the defaults of its inputs"
    if default in ([], {}, ""):
        return "empty"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def type_of(annotation: Any, metadata: tuple[Any, ...] = ()) -> Type:
    """The type of an annotation with pydantic's metadata."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return type_of(inner, (*more, *metadata))
    members = _members(annotation)
    if len(members) == 1 and members[0] is not annotation:
        return type_of(members[0], metadata)
    if spec.SECRET_TEXT in metadata:
        return Type("secret", output=True)
    return replace(
        _text(metadata) or _generic(annotation) or _plain(annotation),
        output=any(each in _KNOWN for each in metadata),
        bounds=tuple(_bounds(metadata)),
    )


def _members(annotation: Any) -> list[Any]:
    """The members of a union but None; another type alone."""
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation]
    return [each for each in get_args(annotation) if each is not type(None)]


def _text(metadata: tuple[Any, ...]) -> Type | None:
    """The type of what callers write as another type than the model has, such as `2Gi`."""
    declared = (each.json_schema for each in metadata if isinstance(each, WithJsonSchema))
    return next((Type(schema["type"]) for schema in declared if schema), None)


def _generic(annotation: Any) -> Type | None:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if len(members := _members(annotation)) > 1:
        return Type("union", items=tuple(map(type_of, members)))
    if origin is Literal:
        return Type("literal", literals=arguments)
    if origin in (list, dict):
        return Type("list" if origin is list else "map", items=(type_of(arguments[-1]),))
    return None


def _plain(annotation: Any) -> Type:
    if annotation in SCALARS:
        return Type(SCALARS[annotation])
    for base, kind in ((BaseModel, "model"), (pulumi.ComponentResource, "component")):
        if isinstance(annotation, type) and issubclass(annotation, base):
            return Type(kind, cls=annotation)
    raise TypeError(f"no generated file has a form for {annotation}")


def _bounds(metadata: tuple[Any, ...]) -> Iterator[str]:
    found: dict[str, Any] = {}
    for each in metadata:
        if isinstance(each, FieldInfo):
            yield from _bounds(tuple(each.metadata))
        elif isinstance(each, WithJsonSchema):
            found["pattern"] = (each.json_schema or {}).get("pattern")
        else:
            values = {
                name: getattr(each, name, None) for name in (*_NUMBERS, "min_length", "pattern")
            }
            found |= {name: value for name, value in values.items() if value is not None}
    if "ge" in found and "le" in found:
        yield f"{found.pop('ge')} to {found.pop('le')}"
    if numbers := [f"{_NUMBERS[name]} {found[name]}" for name in _NUMBERS if name in found]:
        yield " and ".join(numbers)
    if "min_length" in found:
        yield "not empty"
    if found.get("pattern"):
        yield f"`{found['pattern']}`"
