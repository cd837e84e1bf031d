"""Conversion between plain Python values and the property values of the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar

from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.provider import PropertyDiffKind
from pulumi.runtime import rpc
from pydantic import GetCoreSchemaHandler, WrapValidator
from pydantic_core import CoreSchema, core_schema

from .errors import ResourceError

T = TypeVar("T")


class Unknown:
    """A value that is not known yet: an output of another resource of the same update."""

    def __repr__(self) -> str:
        return "<unknown>"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.is_instance_schema(cls)


UNKNOWN: Final = Unknown()

# The engine represents an unknown value by this string. The SDK's `Computed` can be neither sent
# nor received (3.272).
_UNKNOWN_ON_THE_WIRE: Final = rpc.UNKNOWN


def _unknown_passes(value: Any, validate: Any) -> Any:
    return value if isinstance(value, Unknown) else validate(value)


OrUnknown = Annotated[T, WrapValidator(_unknown_passes)]
"""A value that is validated now, or UNKNOWN, which is validated once it is known."""


def to_plain(value: PropertyValue) -> Any:
    """The plain value of `value`: str, float, bool, None, list, dict or UNKNOWN."""
    inner: Any = value.value
    if inner == _UNKNOWN_ON_THE_WIRE:
        return UNKNOWN
    if isinstance(inner, Mapping):
        return {key: to_plain(item) for key, item in inner.items()}
    if isinstance(inner, Sequence) and not isinstance(inner, str):
        return [to_plain(item) for item in inner]
    return inner


def to_property(value: Any, *, secret: bool = False) -> PropertyValue:
    """The engine's form of a plain value. Numbers become floats: the engine has no integers."""
    match value:
        case Unknown():
            return PropertyValue(_UNKNOWN_ON_THE_WIRE, is_secret=secret)
        case bool() | str() | None:
            return PropertyValue(value, is_secret=secret)
        case int() | float():
            return PropertyValue(float(value), is_secret=secret)
        case Mapping():
            return PropertyValue(
                {str(key): to_property(item) for key, item in value.items()}, is_secret=secret
            )
        case Sequence():
            return PropertyValue([to_property(item) for item in value], is_secret=secret)
    raise TypeError(
        f"cannot send a {type(value).__name__} to the engine: use str, float, bool, list or dict"
    )


def secrets_in(value: PropertyValue, secret: bool = False) -> Iterator[str]:
    """Every text inside `value` that is marked as a secret."""
    inner: Any = value.value
    secret = secret or value.is_secret
    if isinstance(inner, Mapping):
        for item in inner.values():
            yield from secrets_in(item, secret)
    elif isinstance(inner, str):
        if secret and inner != _UNKNOWN_ON_THE_WIRE:
            yield inner
    elif isinstance(inner, Sequence):
        for item in inner:
            yield from secrets_in(item, secret)


def known_text(value: Any) -> str:
    """`value` as text. Raises ResourceError if it is unknown."""
    if isinstance(value, Unknown):
        raise ResourceError(
            "a required value is not known yet: another resource of this update provides it"
        )
    return str(value)


def has_unknown(value: Any) -> bool:
    """Whether an UNKNOWN is anywhere inside `value`."""
    match value:
        case Unknown():
            return True
        case Mapping():
            return any(has_unknown(item) for item in value.values())
        case str():
            return False
        case Sequence():
            return any(has_unknown(item) for item in value)
    return False


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, PropertyDiffKind]]:
    """The differences between `old` and `new`: property paths and kinds.

    A path is written as `env.PORT` or `requirements[2]`. UNKNOWN differs from every value.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), _join(path, key))
    elif _is_list(old) and _is_list(new):
        for index in range(max(len(old), len(new))):
            old_item = old[index] if index < len(old) else None
            new_item = new[index] if index < len(new) else None
            yield from differences(old_item, new_item, f"{path}[{index}]")
    elif has_unknown(new) or old != new or isinstance(old, bool) is not isinstance(new, bool):
        if old is None:
            yield path, PropertyDiffKind.ADD
        elif new is None:
            yield path, PropertyDiffKind.DELETE
        else:
            yield path, PropertyDiffKind.UPDATE


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _join(path: str, key: str) -> str:
    if not key.replace("_", "").isalnum():
        quoted = key.replace("\\", "\\\\").replace('"', '\\"')
        return f'{path}["{quoted}"]'
    return f"{path}.{key}" if path else key
