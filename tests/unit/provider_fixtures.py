"""What tests of the plugin's handlers share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pulumi_mlops.plugin.handler import Context, Handler
from pulumi_mlops.stackdir import StackDir


@dataclass
class Log:
    """What the user was told: (level, message)."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, message: str, *, level: str = "info", status: bool = False) -> None:
        self.lines.append(("status" if status else level, message))

    def of(self, level: str) -> list[str]:
        return [message for at, message in self.lines if at == level]


def make_context(
    root: Path,
    token: str,
    name: str = "thing",
    *,
    stack: str = "dev",
    parents: str = "mlops:index:ArtifactStore$",
    log: Log | None = None,
) -> Context:
    """A context as the plugin would make it for `name` of `stack`, its files below `root`."""
    return Context(
        urn=f"urn:pulumi:{stack}::project::{parents}{token}::{name}",
        name=name,
        stack=stack,
        project="project",
        root=StackDir(root / ".mlops" / stack),
        log=log or Log(),
        cancelled=threading.Event(),
    )


def problems(handler: Handler[Any], ctx: Context, **inputs: Any) -> list[tuple[str, str]]:
    """What the handler's check finds wrong with these (camelCase) inputs."""
    return handler.check(ctx, handler.inputs.model_validate(inputs))
