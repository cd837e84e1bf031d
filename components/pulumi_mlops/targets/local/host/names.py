"""The names of replicas and their logs. This module imports neither Pulumi nor pydantic."""

from __future__ import annotations

from pathlib import Path

from ....stackdir import StackDir


def program_name(resource_id: str, index: int) -> str:
    """The name of a replica under the supervisor."""
    return f"{resource_id}-{index}"


def log_file(root: StackDir, program: str) -> Path:
    """The log of a replica."""
    return root.path / "logs" / f"{program}.log"
