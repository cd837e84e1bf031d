"""The Kubernetes target: everything runs in one namespace of a cluster.

The objects are pulumi-kubernetes's own. The plugin waits for them (`mlops:kubernetes:Ready`), so
that one that cannot start is explained by its last events and log lines. Or they are rendered into
a folder, and others apply them.
"""

from __future__ import annotations

from .adapter import KubernetesTarget
from .rendered import RenderedTarget
from .settings import load

__all__ = ["KubernetesTarget", "RenderedTarget", "target"]


def target() -> KubernetesTarget:
    """The one that the stack's `mlops:kubernetes` asks for."""
    return KubernetesTarget() if load().render_to is None else RenderedTarget()
