"""`mlops:kubernetes:ClusterIdentity`: which cluster a stack is on, whatever leads to it."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import httpx
from pydantic import Field

from ....plugin.errors import ResourceError, UnreachableError
from ....plugin.handler import Context, Handler, Inputs, OutputField
from ..api.client import ClusterApi
from ..api.clusters import Clusters
from ..api.errors import RefusedError

RENDER_TO_CHANGED = {
    True: "render_to cannot be set for a stack that is on a cluster: the update would delete all "
    "that it has there. Make another stack for the manifests (`pulumi stack init`), or run "
    "`pulumi destroy` first",
    False: "render_to cannot be removed from a stack that renders: the update would delete its "
    "manifests, and the tool that applies them would delete their objects. Make another stack "
    "(`pulumi stack init`), or run `pulumi destroy` first",
}
"""The error by whether the stack is to render from now on."""
_NO_CLUSTER: dict[str, Any] = {"identifier": "rendered", "facts": {}}
_UID_OF = "kube-system"
# kubernetes.io, "RootCAConfigMap": the control plane writes it into every namespace.
_AUTHORITY_IN = "kube-root-ca.crt"


class ClusterIdentityInputs(Inputs):
    """Inputs of `mlops:kubernetes:ClusterIdentity`."""

    namespace: str = Field(
        description="Namespace of the stack. Users who may not read the namespace `kube-system` "
        "read the copy of the cluster's CA in it."
    )
    rendered: bool = Field(
        False,
        description="Whether the manifests are rendered and no cluster is asked. It cannot change.",
    )


@dataclass(frozen=True)
class ClusterFacts:
    """What tells a cluster from every other one, as far as the user may read it."""

    uid: str = ""
    """UID of the namespace kube-system. Nothing changes it as long as the cluster exists."""
    authority: str = ""
    """SHA-256 of the certificate of the cluster's CA, which may be renewed."""
    server: str = ""
    """Address of the API server. One cluster may have several: for messages only."""

    @classmethod
    def recorded(cls, state: Any) -> ClusterFacts:
        """The facts that a resource has in its state; empty ones where it has none."""
        found = state if isinstance(state, dict) else {}
        return cls(**{key: str(found.get(key) or "") for key in cls.__dataclass_fields__})

    def differs(self, other: ClusterFacts) -> bool:
        """Whether the two are of different clusters for certain."""
        if self.uid and other.uid:
            return self.uid != other.uid
        return bool(self.authority and other.authority) and self.authority != other.authority

    def __str__(self) -> str:
        known = [f"UID of {_UID_OF} {self.uid}"] if self.uid else []
        if not self.uid and self.authority:
            known = [f"CA certificate {self.authority[:16]}"]
        return f"{self.server} ({', '.join(known) or 'unidentified'})"


class ClusterIdentityHandler(Handler[ClusterIdentityInputs]):
    """Identifies the cluster once and compares it in every preview, update and refresh.

    The identifier stays as it was first recorded. Without the right to read kube-system it comes
    from the cluster's CA; without either it is random, and the clusters cannot be compared.
    """

    token = "mlops:kubernetes:ClusterIdentity"
    description = (
        "The cluster of a stack, identified by the UID of the namespace `kube-system` or, for "
        "users who may not read it, by the CA of the cluster. The preview on another cluster "
        "fails. No input describes how the cluster is reached, so another kubeconfig changes "
        "nothing."
    )
    inputs = ClusterIdentityInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "identifier": OutputField(str, "Identifier of the cluster, which never changes."),
        "facts": OutputField(
            dict[str, str], "UID of `kube-system`, digest of the CA, and address of the API server."
        ),
    }
    ignore_in_diff = frozenset({"namespace"})

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters

    def refuse_change(
        self, ctx: Context, changed: set[str], old: dict[str, Any], new: ClusterIdentityInputs
    ) -> None:
        if "rendered" in changed:
            raise ResourceError(RENDER_TO_CHANGED[new.rendered])

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        if state.get("rendered"):
            return {}
        # The owner of the namespace warns of it.
        with contextlib.suppress(UnreachableError, RefusedError):
            refuse_another(self._clusters, state["namespace"], state.get("facts"))
        return {}

    def preview(
        self, ctx: Context, new: ClusterIdentityInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        if old is not None:
            return {key: old[key] for key in self.outputs}
        if new.rendered:
            return _NO_CLUSTER
        try:
            facts = _facts(self._clusters, new.namespace)
        except (UnreachableError, RefusedError):
            return {}
        return _outputs(facts) if facts.uid or facts.authority else {}

    def create(self, ctx: Context, new: ClusterIdentityInputs) -> tuple[str, dict[str, Any]]:
        if new.rendered:
            return _NO_CLUSTER["identifier"], _NO_CLUSTER
        outputs = _outputs(_facts(self._clusters, new.namespace))
        return outputs["identifier"], outputs

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: ClusterIdentityInputs
    ) -> dict[str, Any]:
        return {key: old[key] for key in self.outputs}

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not state:
            raise ResourceError("an identity cannot be imported: an update makes it")
        if state.get("rendered"):
            return {}
        try:
            now = refuse_another(self._clusters, state["namespace"], state["facts"])
        except UnreachableError as error:
            ctx.log(f"left as recorded: {error}", level="warning")
            return {}
        was = ClusterFacts.recorded(state["facts"])
        if was.uid and was.uid == now.uid and now.authority:  # the CA may have been renewed
            return {"facts": {**asdict(was), "authority": now.authority}}
        return {}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """The cluster stays."""


def refuse_another(clusters: Clusters, namespace: str, recorded: Any) -> ClusterFacts:
    """The facts of the cluster that answers; raises ResourceError when it is another one."""
    was, now = ClusterFacts.recorded(recorded), _facts(clusters, namespace)
    if was.differs(now):
        context = clusters.where.context
        raise ResourceError(
            f"this stack is on the cluster {was}, but the kubeconfig"
            f"{f' (context {context})' if context else ''} leads to another cluster, {now}. "
            "Nothing was changed on either. For this stack, use a kubeconfig of its own cluster "
            "(KUBECONFIG, or mlops:kubernetes.kubeconfig and context). For the other cluster, make "
            "another stack (`pulumi stack init`), or run `pulumi destroy` on the former cluster "
            "first. If that cluster no longer exists, `pulumi stack rm --force` forgets the stack."
            + ("" if was.uid and now.uid else _RENEWED)
        )
    return now


_RENEWED = (
    " If the cluster is the same and only its CA was renewed, have somebody who may read namespace "
    f"{_UID_OF} run `pulumi refresh`."
)


def _facts(clusters: Clusters, namespace: str) -> ClusterFacts:
    """Raises UnreachableError, and RefusedError when the login itself is refused."""
    api = clusters.at(namespace)
    found = _readable(api, f"api/v1/namespaces/{_UID_OF}")
    uid = str(found["metadata"]["uid"]) if found else ""
    # A namespace that does not exist yet has no copy.
    for place in (namespace, _UID_OF):
        copy = _readable(api, f"api/v1/namespaces/{place}/configmaps/{_AUTHORITY_IN}")
        if text := ((copy or {}).get("data") or {}).get("ca.crt"):
            authority = hashlib.sha256(text.strip().encode()).hexdigest()
            return ClusterFacts(uid, authority, api.server())
    return ClusterFacts(uid, "", api.server())


def _readable(api: ClusterApi, path: str) -> Any:
    """The object, or None when it does not exist or the user may not read it."""
    try:
        return api.read(path)
    except RefusedError as error:
        if error.status not in (httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND):
            raise
        return None


def _outputs(facts: ClusterFacts) -> dict[str, Any]:
    identifier = facts.uid or (f"ca-{facts.authority}" if facts.authority else str(uuid.uuid4()))
    return {"identifier": identifier, "facts": asdict(facts)}
