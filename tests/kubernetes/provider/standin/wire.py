"""The engine's form of property values (protobuf structs), and plain Python ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct

_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"
_OUTPUT: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
_UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

Object = dict[str, Any]


@dataclass(frozen=True)
class Secret:
    """A value that the engine encrypts in its state and hides from people."""

    value: Any


class Unknown:
    """A value that another resource of the same update is going to give."""

    def __repr__(self) -> str:
        return "<unknown>"


UNKNOWN: Final = Unknown()


def decode(struct: Struct) -> Object:
    """The properties with their secrets and unknown values marked; nulls are left out."""
    decoded = _decode(MessageToDict(struct))
    return decoded if isinstance(decoded, dict) else {}


def encode(properties: Mapping[str, Any]) -> Struct:
    """The engine's form of `properties`."""
    return ParseDict(_encode(properties), Struct())


def plain(value: Any) -> Any:
    """`value` without the marks of secrets."""
    match value:
        case Secret():
            return plain(value.value)
        case Mapping():
            return {key: plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
    return value


def has_unknown(value: Any) -> bool:
    """Whether an unknown value is anywhere inside `value`."""
    match value:
        case Unknown():
            return True
        case Secret():
            return has_unknown(value.value)
        case Mapping():
            return any(has_unknown(item) for item in value.values())
        case list():
            return any(has_unknown(item) for item in value)
    return False


def has_secret(value: Any) -> bool:
    """Whether a secret is anywhere inside `value`."""
    match value:
        case Secret():
            return True
        case Mapping():
            return any(has_secret(item) for item in value.values())
        case list():
            return any(has_secret(item) for item in value)
    return False


def with_secrets_of(outs: Object, ins: Mapping[str, Any]) -> Object:
    """`outs` with secrets where `ins` has them; what a Secret holds is always one."""
    marked = dict(outs)
    if outs.get("kind") == "Secret":
        for key in ("data", "stringData"):
            if key in marked:
                marked[key] = _secret(marked[key])
        return marked
    for key, given in ins.items():
        value = marked.get(key)
        if isinstance(value, dict) and isinstance(given, Mapping):
            marked[key] = with_secrets_of(value, given)
        elif key in marked and has_secret(given):
            # A list with one secret is secret as a whole: servers may reorder it.
            marked[key] = _secret(value)
    return marked


def _secret(value: Any) -> Secret:
    return value if isinstance(value, Secret) else Secret(plain(value))


def _decode(value: Any) -> Any:
    match value:
        case {"4dabf18193072939515e22adb298388d": str(signature), **rest}:
            if signature == _SECRET:
                return Secret(_decode(rest.get("value")))
            if signature == _OUTPUT:
                inner = _decode(rest["value"]) if "value" in rest else UNKNOWN
                return Secret(inner) if rest.get("secret") else inner
            raise ValueError("Kubernetes objects have no assets, archives or references")
        case dict():
            return {_dashed(key): _decode(item) for key, item in value.items() if item is not None}
        case list():
            return [_decode(item) for item in value]
        case float() if value.is_integer():
            # The engine knows only floats, while most numbers of the API are integers.
            return int(value)
        case str() if value == _UNKNOWN:
            return UNKNOWN
    return value


def _encode(value: Any) -> Any:
    match value:
        case Secret():
            return {_SIGNATURE: _SECRET, "value": _encode(value.value)}
        case Unknown():
            return _UNKNOWN
        case Mapping():
            return {
                _underscored(key): _encode(item) for key, item in value.items() if item is not None
            }
        case list():
            return [_encode(item) for item in value]
    return value


def _dashed(key: str) -> str:
    # The SDKs' spelling of the extensions in a CustomResourceDefinition's schema.
    return key.replace("_", "-") if key.startswith("x_kubernetes_") else key


def _underscored(key: str) -> str:
    return key.replace("-", "_") if re.match("x-kubernetes-", key) else key
