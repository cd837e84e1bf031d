"""The resources of the plugin for the Kubernetes target, as Python classes."""

from __future__ import annotations

from ...plugin.sdk import MlopsResource


class ClusterIdentity(MlopsResource):
    """Which cluster a stack is on."""

    _token = "mlops:kubernetes:ClusterIdentity"
    _outputs = ("identifier", "facts")


class NamespaceOwner(MlopsResource):
    """Which stack a namespace of a cluster belongs to."""

    _token = "mlops:kubernetes:NamespaceOwner"
    _outputs = ("status",)


class VolumeGuard(MlopsResource):
    """Refuses an update that would replace a volume."""

    _token = "mlops:kubernetes:VolumeGuard"


class ExistingSecret(MlopsResource):
    """A value out of a Secret of a cluster that somebody else keeps."""

    _token = "mlops:kubernetes:ExistingSecret"
    _outputs = ("value",)


class StoredSecret(MlopsResource):
    """A Secret that is kept in the state alone, for somebody else to apply."""

    _token = "mlops:kubernetes:StoredSecret"


class Ready(MlopsResource):
    """A workload of a cluster, waited for."""

    _token = "mlops:kubernetes:Ready"
    _outputs = ("outputs", "status")
