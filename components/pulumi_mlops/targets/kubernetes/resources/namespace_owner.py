"""`mlops:kubernetes:NamespaceOwner`: records in a namespace which stack owns it."""

from __future__ import annotations

from typing import Any, ClassVar

import httpx
from pydantic import Field

from ....plugin.errors import ResourceError, UnreachableError
from ....plugin.handler import Context, Handler, Inputs, OutputField
from ....plugin.values import OrUnknown, Unknown
from ..api.client import ClusterApi
from ..api.clusters import Clusters
from ..api.errors import RefusedError
from ..api.pods import Manifest

NAME = "mlops-owner"
"""Name of the ConfigMap with the owner."""
_CHOOSE_ANOTHER = "choose another namespace (mlops:kubernetes.namespace)"


class NamespaceOwnerInputs(Inputs):
    """Inputs of `mlops:kubernetes:NamespaceOwner`."""

    namespace: OrUnknown[str] = Field(description="Name of the namespace. It cannot change.")
    key: OrUnknown[str] = Field(
        description="Key that distinguishes this stack from a stack of the same name in another "
        "backend."
    )
    create_namespace: bool = Field(True, description="Create a namespace that does not exist.")
    delete_namespace: bool = Field(
        False, description="Delete the namespace with the resource that created it."
    )
    provider: OrUnknown[str | None] = Field(
        None,
        description="Id of the Kubernetes provider. A preview that replaces it fails. Default: "
        "not compared.",
    )


class NamespaceOwnerHandler(Handler[NamespaceOwnerInputs]):
    """Claims a namespace for one stack, so that no other stack overwrites its objects.

    The key is a separate resource. It is in the state before the ConfigMap is on the cluster, so
    that the update after an interrupted one recognizes the ConfigMap as its own.
    """

    token = "mlops:kubernetes:NamespaceOwner"
    description = (
        "The stack that owns a namespace. The preview of another stack with the same namespace "
        "fails, if the cluster can be reached."
    )
    inputs = NamespaceOwnerInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "status": OutputField(str, "`owned`, `gone` or `of another stack`.")
    }
    # createNamespace is compared too: `refuse_change` reads the recorded value.

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters

    def refuse_change(
        self, ctx: Context, changed: set[str], old: dict[str, Any], new: NamespaceOwnerInputs
    ) -> None:
        # Names are fixed: a replacement would adopt each object, then delete what it adopted.
        if "provider" in changed and old.get("provider"):
            raise ResourceError(
                "the update would replace the Kubernetes provider, and so delete every object in "
                f"namespace {old['namespace']}, data included. Nothing was changed. Undo what "
                "replaces the provider (`pulumi preview --diff` shows it), or run `pulumi destroy` "
                "first"
            )
        if "namespace" in changed:
            raise ResourceError(
                f"mlops:kubernetes.namespace cannot change from {old['namespace']} to "
                f"{new.namespace}: the update would delete everything in {old['namespace']}. For "
                "another namespace, create another stack (`pulumi stack init`), or run `pulumi "
                "destroy` first"
            )
        released = old.get("createNamespace", True) and not new.create_namespace
        if released and old.get("deleteNamespace"):
            raise ResourceError(
                "mlops:kubernetes.create_namespace cannot become false while delete_namespace is "
                f"true: namespace {old['namespace']} would be deleted with everything in it. First "
                "run `pulumi up` with delete_namespace: false"
            )

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        try:
            config_map = self._clusters.at(resource_id).get("ConfigMap", NAME)
        except ResourceError as error:
            # A preview works without access to the cluster. An update does not.
            ctx.log(f"previewed without the cluster: {error}", level="warning")
            return {}
        if config_map is None:
            return {"status": "gone"}
        return {} if _key(config_map) == state["key"] else {"status": "of another stack"}

    def preview(
        self, ctx: Context, new: NamespaceOwnerInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        known = {"status": "owned"}
        if isinstance(new.namespace, Unknown):
            return known
        api = self._clusters.at(new.namespace)
        try:
            config_map = api.get("ConfigMap", NAME)
            if config_map is None:
                _exists(api, new, created_before=old is not None)
        except UnreachableError as error:
            ctx.log(f"previewed without the cluster: {error}", level="warning")
            return known
        except RefusedError as error:
            # The user who previews may have fewer permissions than the user who updates.
            ctx.log(
                f"the owner of namespace {new.namespace} could not be read: {error}",
                level="warning",
            )
            return known
        if config_map is not None and _key(config_map) not in _own_keys(new, old):
            raise ResourceError(_refusal(ctx, new.namespace, config_map))
        return known

    def create(self, ctx: Context, new: NamespaceOwnerInputs) -> tuple[str, dict[str, Any]]:
        _claim(self._clusters, ctx, new, None)
        return str(new.namespace), {"status": "owned"}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: NamespaceOwnerInputs
    ) -> dict[str, Any]:
        _claim(self._clusters, ctx, new, old)
        return {"status": "owned"}

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not state:
            raise ResourceError("a NamespaceOwner cannot be imported: an update creates it")
        try:
            config_map = self._clusters.at(resource_id).get("ConfigMap", NAME)
        except UnreachableError as error:
            ctx.log(f"the recorded state is kept: {error}", level="warning")
            return {}
        owned = config_map is not None and _key(config_map) == state["key"]
        return {"status": "owned"} if owned else None

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        api = self._clusters.at(resource_id)
        config_map = api.get("ConfigMap", NAME)
        if config_map is not None and _key(config_map) == old["key"]:
            api.delete("ConfigMap", NAME)


def _claim(
    clusters: Clusters, ctx: Context, new: NamespaceOwnerInputs, old: dict[str, Any] | None
) -> None:
    """Create the ConfigMap, and the namespace if it does not exist.

    Raises ResourceError if another stack owns the namespace.
    """
    namespace = str(new.namespace)
    api = clusters.at(namespace)
    config_map = api.get("ConfigMap", NAME)
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "labels": {"app.kubernetes.io/managed-by": "pulumi-mlops"}},
        "data": {"key": new.key, "owner": _stack_name(ctx)},
    }
    if config_map is None:
        if not _exists(api, new, created_before=old is not None):
            _create_namespace(api, namespace)
        try:
            api.create("ConfigMap", manifest)
            return
        except RefusedError as error:
            if "is being terminated" in str(error):
                raise ResourceError(_being_deleted(namespace, None)) from None
            if error.status == httpx.codes.NOT_FOUND:
                raise ResourceError(_missing(namespace)) from None
            if error.status != httpx.codes.CONFLICT:
                raise
        # Another update has created it in the meantime.
        config_map = api.get("ConfigMap", NAME)
    if config_map is None or _key(config_map) not in _own_keys(new, old):
        raise ResourceError(_refusal(ctx, namespace, config_map))
    if _key(config_map) != new.key:
        api.apply("ConfigMap", manifest, "pulumi-mlops")


def _exists(api: ClusterApi, new: NamespaceOwnerInputs, *, created_before: bool) -> bool:
    """Whether the namespace exists.

    Raises ResourceError if it is being deleted, or if it does not exist and may not be created.
    """
    namespace = str(new.namespace)
    try:
        found = api.get("Namespace", namespace)
    except RefusedError as error:
        if error.status != httpx.codes.FORBIDDEN:
            raise
        return True  # a user with a role in the namespace may have no permission to read it
    if found is None:
        if created_before:
            raise ResourceError(
                f"namespace {namespace} is gone, with all that was in it. If it was deleted, run "
                "`pulumi refresh`, then update again. To move to another cluster, run `pulumi "
                "destroy` on the former cluster first"
            )
        if not new.create_namespace:
            raise ResourceError(_missing(namespace))
        return False
    if found.get("status", {}).get("phase") == "Terminating":
        raise ResourceError(_being_deleted(namespace, found))
    return True


def _create_namespace(api: ClusterApi, namespace: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    try:
        api.create("Namespace", manifest)
    except RefusedError as error:
        if error.status == httpx.codes.FORBIDDEN:
            raise ResourceError(
                f"there is no namespace {namespace}, and you have no permission to create it: ask "
                "an administrator to create it with the role `admin` for you, and set "
                "mlops:kubernetes.create_namespace to false"
            ) from None
        if error.status != httpx.codes.CONFLICT:
            raise


def _missing(namespace: str) -> str:
    return (
        f"there is no namespace {namespace}: create it, or set "
        "mlops:kubernetes.create_namespace to true"
    )


def _being_deleted(namespace: str, manifest: Manifest | None) -> str:
    """The error for a namespace that is being deleted, with the reasons of the cluster."""
    conditions = (manifest or {}).get("status", {}).get("conditions") or []
    reasons = [
        f"; {each['message']}"
        for each in conditions
        if each["type"].endswith("Remaining") and each["status"] == "True"
    ]
    return (
        f"namespace {namespace} is being deleted{''.join(reasons)}. Wait until it is gone "
        f"(`kubectl get namespace {namespace}`), then update again, or {_CHOOSE_ANOTHER}"
    )


def _refusal(ctx: Context, namespace: str, config_map: Manifest | None) -> str:
    """The error for a namespace that another stack owns."""
    owner = str(((config_map or {}).get("data") or {}).get("owner") or "of unknown name")
    description = f"another stack, {owner}"
    if owner == _stack_name(ctx):
        description = f"another stack of the same name, {owner}, whose state is not this one"
    return (
        f"namespace {namespace} belongs to {description}: two stacks in one namespace would "
        "overwrite each other's objects. Nothing was changed in it. For this stack, "
        f"{_CHOOSE_ANOTHER}. If the other stack no longer exists, release the namespace: "
        f"`kubectl --namespace {namespace} delete configmap {NAME}`"
    )


def _stack_name(ctx: Context) -> str:
    return f"{ctx.project}/{ctx.stack}"


def _key(config_map: Manifest) -> Any:
    return (config_map.get("data") or {}).get("key")


def _own_keys(new: NamespaceOwnerInputs, old: dict[str, Any] | None) -> set[Any]:
    return {new.key, None if old is None else old.get("key")} - {None}
