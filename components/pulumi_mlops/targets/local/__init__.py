"""The local target: programs run as processes of this machine, without root."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ..capabilities import Capability

if TYPE_CHECKING:
    from ...spec import Spec
    from .adapter import LocalTarget
    from .operations import LocalOperations
    from .resources import LocalResources

_CAPABILITIES = {
    Capability.ANALYSIS,
    Capability.FETCHED_FILES,
    Capability.REPLICAS,
    Capability.ROUTES,
    Capability.SCHEDULES,
    Capability.SHARED_DATA,
}


class LocalPackage:
    """The entry point of the target."""

    on_this_machine = True
    plugins: Sequence[str] = ()

    @property
    def capabilities(self) -> Collection[Capability]:
        """See TargetPackage. GPUs only if this machine has one."""
        from .host.gpu import has_gpu  # noqa: PLC0415

        return _CAPABILITIES | ({Capability.GPUS} if has_gpu() else set())

    def adapter(self) -> LocalTarget:
        """See TargetPackage."""
        from .adapter import LocalTarget  # noqa: PLC0415

        return LocalTarget()

    def settings(self) -> type[Spec] | None:
        """See TargetPackage. The local target has no settings of its own."""
        return None

    def resources(self) -> LocalResources:
        """See TargetPackage."""
        from .resources import LocalResources  # noqa: PLC0415

        return LocalResources()

    def operations(self) -> LocalOperations:
        """See TargetPackage."""
        from .operations import LocalOperations  # noqa: PLC0415

        return LocalOperations()
