"""The toy target: programs run as plain child processes, without a supervisor.

It is a small but complete target in a distribution of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from pulumi_mlops.targets.capabilities import Capability

if TYPE_CHECKING:
    from .adapter import ToyTarget
    from .operations import ToyOperations
    from .resources import ToyResources
    from .settings import ToySettings


class ToyPackage:
    """The entry point of the target."""

    on_this_machine = True
    plugins: Sequence[str] = ()
    capabilities: Collection[Capability] = ()

    def adapter(self) -> ToyTarget:
        """See TargetPackage."""
        from .adapter import ToyTarget  # noqa: PLC0415

        return ToyTarget()

    def settings(self) -> type[ToySettings]:
        """See TargetPackage."""
        from .settings import ToySettings  # noqa: PLC0415

        return ToySettings

    def resources(self) -> ToyResources:
        """See TargetPackage."""
        from .resources import ToyResources  # noqa: PLC0415

        return ToyResources()

    def operations(self) -> ToyOperations:
        """See TargetPackage."""
        from .operations import ToyOperations  # noqa: PLC0415

        return ToyOperations()
