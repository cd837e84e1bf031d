"""The installed targets, by name.

A target is a package with an entry point in the group `pulumi_mlops.targets`. The name of the entry
point is the value of `mlops:target`, its object is a class with the members of `TargetPackage`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from ..cli.operations import Operations
    from ..plugin.handler import ResourceSet
    from ..spec import Spec
    from .capabilities import Capability
    from .port import Target

GROUP = "pulumi_mlops.targets"
DEFAULT = "local"
"""The target of a stack whose configuration has no `mlops:target`."""


class TargetPackage(Protocol):
    """The parts of a target. Each method imports its modules itself, so that loading is fast."""

    on_this_machine: bool
    """Whether programs run on this machine and their addresses need no tunnel."""
    plugins: Sequence[str]
    """The resource plugins that the engine needs in addition to `mlops`."""
    capabilities: Collection[Capability]
    """The optional requests of the port that the target supports."""

    def adapter(self) -> Target:
        """The adapter that answers the requests of a program."""

    def settings(self) -> type[Spec] | None:
        """The model of the stack configuration `mlops:<name>`, or None if there is none."""

    def resources(self) -> ResourceSet:
        """The handlers of the target in the resource plugin."""

    def operations(self) -> Operations:
        """The operations of the `mlops` command for a stack on the target."""


class UnknownTargetError(ValueError):
    """The error for a name that no installed target has."""


def names(distribution: str | None = None) -> list[str]:
    """The names of the installed targets, or only of those in one `distribution`."""
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


def supporting(capability: Capability) -> list[str]:
    """The names of the installed targets that support a capability.

    A target that fails to load is omitted, so that the error of the selected target is shown.
    """
    return [name for name in names() if capability in _capabilities(name)]


def _capabilities(name: str) -> Collection[Capability]:
    try:
        return load(name).capabilities
    except Exception:  # the code of another distribution
        return ()


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
