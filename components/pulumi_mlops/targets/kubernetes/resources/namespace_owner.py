"""`mlops:kubernetes:NamespaceOwner`: which stack a namespace belongs to, written down in it."""

from __future__ import annotations

from typing import Any, ClassVar

import httpx
from pydantic import Field

from ....plugin.errors import ResourceError, UnreachableError
from ....plugin.handler import Context, Handler, Inputs, OutputField
from ....plugin.values import Known, Unknown
from ..api.client import ClusterApi
from ..api.clusters import Clusters
from ..api.errors import RefusedError
from ..api.pods import Manifest

NAME = "mlops-owner"
"""The ConfigMap that says it."""
_OTHER = "choose another one: mlops:kubernetes.namespace"


class NamespaceOwnerInputs(Inputs):
    """Inputs of `mlops:kubernetes:NamespaceOwner`."""

    namespace: Known[str] = Field(description="Name of the namespace. It cannot change.")
    key: Known[str] = Field(
        description="Key that distinguishes this stack from a stack of the same name in another "
        "backend."
    )
    create_namespace: bool = Field(True, description="Create a namespace that does not exist.")
    delete_namespace: bool = Field(
        False, description="Delete the namespace with the resource that created it."
    )
    provider: Known[str | None] = Field(
        None,
        description="Id of the Kubernetes provider. A plan that replaces it is refused. Default: "
        "not compared.",
    )


class NamespaceOwnerHandler(Handler[NamespaceOwnerInputs]):
    """Takes a namespace for one stack, so that no other one overwrites what is in it.

    The key comes from a resource of its own: it is in the state before anything is on the
    cluster, and an update that was killed in between finds its own key there.
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
    replace_on: ClassVar[frozenset[str]] = frozenset()
    ignore_in_diff = frozenset({"createNamespace"})

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
                "another namespace, make another stack (`pulumi stack init`), or run `pulumi "
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
            found = self._clusters.at(resource_id).get("ConfigMap", NAME)
        except ResourceError as error:
            # A reviewer needs no cluster; who updates next will.
            ctx.log(f"previewed without the cluster: {error}", level="warning")
            return {}
        if found is None:
            return {"status": "gone"}
        return {} if _key(found) == state["key"] else {"status": "of another stack"}

    def preview(
        self, ctx: Context, new: NamespaceOwnerInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        known = {"status": "owned"}
        if isinstance(new.namespace, Unknown):
            return known
        api = self._clusters.at(new.namespace)
        try:
            found = api.get("ConfigMap", NAME)
            if found is None:
                _exists(api, new, made_before=old is not None)
        except UnreachableError as error:
            ctx.log(f"previewed without the cluster: {error}", level="warning")
            return known
        except RefusedError as error:  # who previews is not always who updates
            ctx.log(f"whose namespace {new.namespace} is, nobody knows: {error}", level="warning")
            return known
        if found is not None and _key(found) not in _ours(new, old):
            raise ResourceError(_refusal(ctx, new.namespace, found))
        return known

    def create(self, ctx: Context, new: NamespaceOwnerInputs) -> tuple[str, dict[str, Any]]:
        _take(self._clusters, ctx, new, None)
        return str(new.namespace), {"status": "owned"}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: NamespaceOwnerInputs
    ) -> dict[str, Any]:
        _take(self._clusters, ctx, new, old)
        return {"status": "owned"}

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not state:
            raise ResourceError("an owner cannot be imported: leave it out; an update makes it")
        try:
            found = self._clusters.at(resource_id).get("ConfigMap", NAME)
        except UnreachableError as error:
            ctx.log(f"left as recorded: {error}", level="warning")
            return {}
        return {"status": "owned"} if found is not None and _key(found) == state["key"] else None

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        api = self._clusters.at(resource_id)
        found = api.get("ConfigMap", NAME)
        if found is not None and _key(found) == old["key"]:
            api.delete("ConfigMap", NAME)


def _take(
    clusters: Clusters, ctx: Context, new: NamespaceOwnerInputs, old: dict[str, Any] | None
) -> None:
    namespace = str(new.namespace)
    api = clusters.at(namespace)
    found = api.get("ConfigMap", NAME)
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "labels": {"app.kubernetes.io/managed-by": "pulumi-mlops"}},
        "data": {"key": new.key, "owner": _called(ctx)},
    }
    if found is None:
        if not _exists(api, new, made_before=old is not None):
            _make_namespace(api, namespace)
        try:
            api.create("ConfigMap", manifest)
            return
        except RefusedError as error:
            if "is being terminated" in str(error):
                raise ResourceError(_ending(namespace, None)) from None
            if error.status == httpx.codes.NOT_FOUND:
                raise ResourceError(_missing(namespace)) from None
            if error.status != httpx.codes.CONFLICT:
                raise
        # Another update was faster by a moment.
        found = api.get("ConfigMap", NAME)
    if found is None or _key(found) not in _ours(new, old):
        raise ResourceError(_refusal(ctx, namespace, found))
    if _key(found) != new.key:
        api.apply("ConfigMap", manifest, "pulumi-mlops")


def _exists(api: ClusterApi, new: NamespaceOwnerInputs, *, made_before: bool) -> bool:
    """Whether the namespace is there. Raises ResourceError when it is about to end, or is not there
    and not to be made."""
    namespace = str(new.namespace)
    try:
        found = api.get("Namespace", namespace)
    except RefusedError as error:
        if error.status != httpx.codes.FORBIDDEN:
            raise
        return True  # who has a role within it need not see it
    if found is None:
        if made_before:
            raise ResourceError(
                f"namespace {namespace} is gone, with all that was in it: if somebody deleted it, "
                "`pulumi refresh`, then update again; to move to another cluster, destroy the "
                "stack on the former one first"
            )
        if not new.create_namespace:
            raise ResourceError(_missing(namespace))
        return False
    if found.get("status", {}).get("phase") == "Terminating":
        raise ResourceError(_ending(namespace, found))
    return True


def _make_namespace(api: ClusterApi, namespace: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    try:
        api.create("Namespace", manifest)
    except RefusedError as error:
        if error.status == httpx.codes.FORBIDDEN:
            raise ResourceError(
                f"there is no namespace {namespace}, and you may not make one: have it made, with "
                "the role `admin` in it for you, and set mlops:kubernetes.create_namespace to false"
            ) from None
        if error.status != httpx.codes.CONFLICT:
            raise


def _missing(namespace: str) -> str:
    return (
        f"there is no namespace {namespace}: have it made, or set "
        "mlops:kubernetes.create_namespace to true"
    )


def _ending(namespace: str, found: Manifest | None) -> str:
    """That the namespace is being deleted, and what holds it as far as the cluster says."""
    conditions = (found or {}).get("status", {}).get("conditions") or []
    held = [
        f"; {each['message']}"
        for each in conditions
        if each["type"].endswith("Remaining") and each["status"] == "True"
    ]
    return (
        f"namespace {namespace} is being deleted{''.join(held)}. Wait until it is gone "
        f"(`kubectl get namespace {namespace}`), then update again, or {_OTHER}"
    )


def _refusal(ctx: Context, namespace: str, found: Manifest | None) -> str:
    owner = str(((found or {}).get("data") or {}).get("owner") or "nobody knows whom")
    who = f"another stack, {owner}"
    if owner == _called(ctx):
        who = f"another stack of the same name, {owner}, whose state is not this one"
    return (
        f"namespace {namespace} belongs to {who}: two stacks in one namespace would overwrite each "
        f"other's objects. Nothing was changed in it. For this stack, {_OTHER}. When the other one "
        f"is gone for good, free it: kubectl --namespace {namespace} delete configmap {NAME}"
    )


def _called(ctx: Context) -> str:
    return f"{ctx.project}/{ctx.stack}"


def _key(found: Manifest) -> Any:
    return (found.get("data") or {}).get("key")


def _ours(new: NamespaceOwnerInputs, old: dict[str, Any] | None) -> set[Any]:
    return {new.key, None if old is None else old.get("key")} - {None}
