"""The Kubernetes target: everything runs in one namespace of a cluster.

Objects are resources of pulumi-kubernetes. The resource plugin waits for them
(`mlops:kubernetes:Ready`), and its errors contain the last events and log lines of a workload that
cannot start. With `render_to` the objects are rendered into a folder, and another tool applies
them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ..capabilities import Capability

if TYPE_CHECKING:
    from .adapter import KubernetesTarget
    from .operations import KubernetesOperations
    from .resources import KubernetesResources
    from .settings import KubernetesSettings


class KubernetesPackage:
    """The entry point of the target."""

    on_this_machine = False
    plugins: Sequence[str] = ("kubernetes",)
    capabilities: Collection[Capability] = frozenset(Capability) - {
        Capability.ANALYSIS,
        Capability.SHARED_DATA,
    }

    def adapter(self) -> KubernetesTarget:
        """See TargetPackage."""
        from .adapter import KubernetesTarget  # noqa: PLC0415
        from .rendered import RenderedTarget  # noqa: PLC0415
        from .settings import load  # noqa: PLC0415

        return KubernetesTarget() if load().render_to is None else RenderedTarget()

    def settings(self) -> type[KubernetesSettings]:
        """See TargetPackage."""
        from .settings import KubernetesSettings  # noqa: PLC0415

        return KubernetesSettings

    def resources(self) -> KubernetesResources:
        """See TargetPackage."""
        from .resources import KubernetesResources  # noqa: PLC0415

        return KubernetesResources()

    def operations(self) -> KubernetesOperations:
        """See TargetPackage."""
        from .operations import KubernetesOperations  # noqa: PLC0415

        return KubernetesOperations()
