"""The Kubernetes target: everything runs in one namespace of a cluster.

The objects are pulumi-kubernetes's own. The plugin waits for them (`mlops:kubernetes:Ready`), so
that one that cannot start is explained by its last events and log lines.
"""

from __future__ import annotations

from .adapter import KubernetesTarget

__all__ = ["KubernetesTarget"]
