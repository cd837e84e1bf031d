"""`mlops:kubernetes:VolumeGuard`: refuses an update that would replace a volume."""

from __future__ import annotations

import contextlib
from typing import Any

from pydantic import Field

from ....plugin.errors import ResourceError, UnreachableError
from ....plugin.handler import Context, Handler, Inputs
from ..api.clusters import Clusters
from ..api.errors import RefusedError


class VolumeGuardInputs(Inputs):
    """Inputs of `mlops:kubernetes:VolumeGuard`."""

    namespace: str = Field(description="Namespace of the PersistentVolumeClaim.")
    name: str = Field(description="Name of the PersistentVolumeClaim.")
    storage_class: str | None = Field(
        None,
        description="Storage class of the claim. It cannot change. Default: the cluster's default.",
    )


class VolumeGuardHandler(Handler[VolumeGuardInputs]):
    """Compares the inputs of a claim with the existing one. Creates, changes and deletes nothing.

    The claim depends on this resource. The fields of a claim are immutable, so the engine would
    replace it: delete it with its data, and create an empty claim.
    """

    token = "mlops:kubernetes:VolumeGuard"
    description = (
        "A check of a PersistentVolumeClaim. The preview of an update fails if it would replace "
        "the claim, which deletes its data, or use a claim that is being deleted."
    )
    inputs = VolumeGuardInputs

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters

    def refuse_change(
        self, ctx: Context, changed: set[str], old: dict[str, Any], new: VolumeGuardInputs
    ) -> None:
        if "storageClass" in changed:
            raise _replaced(new, old.get("storageClass"))

    def preview(
        self, ctx: Context, new: VolumeGuardInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        # NamespaceOwner warns about an unreachable cluster.
        with contextlib.suppress(UnreachableError, RefusedError):
            self._compare(new)
        return {}

    def create(self, ctx: Context, new: VolumeGuardInputs) -> tuple[str, dict[str, Any]]:
        self._compare(new)
        return f"{new.namespace}/{new.name}", {}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: VolumeGuardInputs
    ) -> dict[str, Any]:
        return {}

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not state:
            raise ResourceError("a VolumeGuard cannot be imported: an update creates it")
        try:
            found = self._clusters.at(state["namespace"]).get(
                "PersistentVolumeClaim", state["name"]
            )
        except (UnreachableError, RefusedError) as error:
            ctx.log(f"the recorded state is kept: {error}", level="warning")
            return {}
        return None if found is None else {}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """Do nothing: the claim is a separate resource."""

    def _compare(self, new: VolumeGuardInputs) -> None:
        """Raise ResourceError if the claim is being deleted or has another storage class."""
        found = self._clusters.at(new.namespace).get("PersistentVolumeClaim", new.name)
        if found is None:
            return
        if "deletionTimestamp" in found["metadata"]:
            raise ResourceError(
                f"PersistentVolumeClaim {new.name} in namespace {new.namespace} is being deleted. "
                "It exists until no pod uses it. Wait until it is gone (`kubectl --namespace "
                f"{new.namespace} get pvc {new.name}`), then update again"
            )
        existing = found.get("spec", {}).get("storageClassName")
        # Without the input, the class is the cluster's default, or was applied by a former update.
        removed = new.storage_class is None and _is_applied(found)
        if removed or (new.storage_class is not None and existing != new.storage_class):
            raise _replaced(new, existing)


def _is_applied(claim: Any) -> bool:
    """Whether a client applied the storage class, so that the cluster did not choose it.

    Kubernetes records the fields of each server-side apply in `managedFields`.
    """
    return any(
        entry.get("operation") == "Apply"
        and "f:storageClassName" in (entry.get("fieldsV1") or {}).get("f:spec", {})
        for entry in claim["metadata"].get("managedFields") or []
    )


def _replaced(new: VolumeGuardInputs, existing: Any) -> ResourceError:
    current = f"storage class {existing}" if existing else "the cluster's default storage class"
    requested = new.storage_class or "null"
    return ResourceError(
        f"mlops:kubernetes.storage_class cannot become {requested} for PersistentVolumeClaim "
        f"{new.name}, which has {current}: the update would replace the volume with an empty one. "
        f"Nothing was changed. Restore storage_class ({existing or 'null'}), or copy the data, "
        "delete the claim, run `pulumi refresh`, then `pulumi up`"
    )
