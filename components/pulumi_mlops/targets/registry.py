"""The targets that are installed, by name.

A target is a package with an entry point in the group `pulumi_mlops.targets`: its name is what
`mlops:target` selects, and its value is a class with the methods of `TargetPackage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from ..cli.operations import Operations
    from ..plugin.handler import ResourceSet
    from ..spec import Spec
    from .port import Target

GROUP = "pulumi_mlops.targets"
DEFAULT = "local"
"""The target of a stack whose configuration has no `mlops:target`."""


class TargetPackage(Protocol):
    """What a target offers. Loading it is cheap: each method imports what it needs."""

    on_this_machine: bool
    """Whether programs run on this machine, and their addresses are reached from it directly."""
    plugins: Sequence[str]
    """The resource plugins that the engine needs beside `mlops`."""

    def adapter(self) -> Target:
        """The adapter that answers a program's requests."""

    def settings(self) -> type[Spec] | None:
        """The model of the target's stack configuration, `mlops:<name>`; None without one."""

    def resources(self) -> ResourceSet:
        """What the target adds to the resource plugin."""

    def operations(self) -> Operations:
        """What the `mlops` command does with a stack on the target."""


class UnknownTargetError(ValueError):
    """No installed target has the name."""


def names(distribution: str | None = None) -> list[str]:
    """The installed targets; with `distribution`, those that this distribution brings."""
    return sorted(
        name
        for name, point in _entry_points().items()
        if distribution is None or (point.dist is not None and point.dist.name == distribution)
    )


def load(name: str) -> TargetPackage:
    """The package of the target called `name`. Raises UnknownTargetError."""
    try:
        point = _entry_points()[name]
    except KeyError:
        raise UnknownTargetError(
            f"mlops:target: there is no target {name!r}: choose one of {', '.join(names())}"
        ) from None
    return cast("TargetPackage", point.load()())


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
