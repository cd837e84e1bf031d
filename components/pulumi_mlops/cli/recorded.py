"""What a file backend has recorded of a stack: its resources, and how the last update ended.

Read without the engine, which takes seconds. Names and ids are not encrypted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..files import read_json
from .checks_engine import backend_url
from .selection import Stack

_CHANGES = ("update", "destroy")
"""The kinds of updates that provision or delete resources."""


@dataclass(frozen=True)
class RecordedStack:
    """The state of a stack in a file backend."""

    resources: Sequence[Mapping[str, Any]]
    """The resources that exist. Each has `type`, `id` and `inputs`."""
    failed: float | None
    """When the last update failed, in seconds since the epoch. None if it succeeded."""


def recorded_stack(stack: Stack) -> RecordedStack | None:
    """The state of `stack`; None if its backend has no files on this machine."""
    folder = _folder(stack)
    if folder is None:
        return None
    state = read_json(folder / "stacks" / stack.project / f"{stack.name}.json")
    if not isinstance(state, dict):
        return None
    latest = (state.get("checkpoint") or {}).get("latest") or {}
    # A replaced resource stays in the state until it is deleted.
    resources = [each for each in latest.get("resources") or [] if not each.get("delete")]
    return RecordedStack(resources, _failed(folder / "history" / stack.project / stack.name))


def _folder(stack: Stack) -> Path | None:
    """The folder of the selected file backend. Default: the state of the checkout."""
    url, _ = backend_url()
    if not url:
        return stack.folder / ".mlops" / "state" / ".pulumi"
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    return Path(unquote(parts.netloc + parts.path)).expanduser() / ".pulumi"


def _failed(history: Path) -> float | None:
    # The names contain the time, with the same number of digits.
    for file in sorted(history.glob("*.history.json"), reverse=True):
        entry = read_json(file)
        if isinstance(entry, dict) and entry.get("kind") in _CHANGES:
            return float(entry.get("endTime") or 0) if entry.get("result") == "failed" else None
    return None
