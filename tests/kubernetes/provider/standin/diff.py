"""How two sets of inputs of an object differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from .replaces import Path, touches
from .wire import has_unknown

_ABSENT: Final = object()


@dataclass(frozen=True)
class Change:
    """One place where inputs differ."""

    path: Path
    kind: Literal["add", "delete", "update"]
    value: Any
    """What is there now, or was before it went."""

    @property
    def spelled(self) -> str:
        """The property path as the engine writes it."""
        return spelled(self.path)

    def replaces(self, fields: Iterable[Path]) -> bool:
        """Whether it changes one of `fields`."""
        return any(touches(self.path, self.value, field) for field in fields)


def changes(old: Any, new: Any, path: Path = ()) -> Iterator[Change]:
    """Every place where `new` differs from `old`; an unknown value differs from everything."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from changes(old.get(key, _ABSENT), new.get(key, _ABSENT), (*path, key))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            one = old[index] if index < len(old) else _ABSENT
            other = new[index] if index < len(new) else _ABSENT
            yield from changes(one, other, (*path, index))
    elif old is _ABSENT:
        yield Change(path, "add", new)
    elif new is _ABSENT:
        yield Change(path, "delete", old)
    elif has_unknown(new) or old != new or isinstance(old, bool) is not isinstance(new, bool):
        yield Change(path, "update", new)


def merge_patch(old: Any, new: Any) -> Any:
    """The JSON merge patch (RFC 7386) that makes `new` of `old`."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    patch = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif old[key] != value:
            patch[key] = merge_patch(old[key], value)
    return patch


def ignored(path: str, ignore_changes: Iterable[str]) -> bool:
    """Whether the program said to ignore changes at or below `path`."""
    return any(path == each or path.startswith((f"{each}.", f"{each}[")) for each in ignore_changes)


def spelled(path: Path) -> str:
    """A property path: `spec.ports[0].name`, `metadata.labels["app.kubernetes.io/name"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif any(mark in part for mark in '."[]'):
            escaped = part.replace('"', '\\"')
            text += f'["{escaped}"]'
        else:
            text += f".{part}" if text else part
    return text
