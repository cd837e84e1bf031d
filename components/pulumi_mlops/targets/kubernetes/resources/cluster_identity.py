"""`mlops:kubernetes:ClusterIdentity`: identifies the cluster of a stack, for any kubeconfig."""

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
    "of its objects. Create another stack for the manifests (`pulumi stack init`), or run "
    "`pulumi destroy` first",
    False: "render_to cannot be removed from a stack that renders: the update would delete its "
    "manifests, and the tool that applies them would delete their objects. Create another stack "
    "(`pulumi stack init`), or run `pulumi destroy` first",
}
"""The error message, by whether the new configuration has `render_to`."""
_NO_CLUSTER: dict[str, Any] = {"identifier": "rendered", "facts": {}}
_UID_NAMESPACE = "kube-system"
# kubernetes.io, "RootCAConfigMap": the control plane creates this ConfigMap in every namespace.
_CA_CONFIG_MAP = "kube-root-ca.crt"


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
    """The facts that identify a cluster. Empty where the user has no permission to read them."""

    uid: str = ""
    """UID of the namespace kube-system. It does not change while the cluster exists."""
    authority: str = ""
    """SHA-256 of the certificate of the cluster's CA, which may be renewed."""
    server: str = ""
    """Address of the API server, for messages. One cluster may have several addresses."""

    @classmethod
    def recorded(cls, state: Any) -> ClusterFacts:
        """The facts in the state of a resource. Empty for facts that it does not contain."""
        values = state if isinstance(state, dict) else {}
        return cls(**{key: str(values.get(key) or "") for key in cls.__dataclass_fields__})

    def differs(self, other: ClusterFacts) -> bool:
        """Whether the facts prove that the clusters are different."""
        if self.uid and other.uid:
            return self.uid != other.uid
        return bool(self.authority and other.authority) and self.authority != other.authority

    def __str__(self) -> str:
        identity = "unidentified"
        if self.uid:
            identity = f"UID of {_UID_NAMESPACE} {self.uid}"
        elif self.authority:
            identity = f"CA certificate {self.authority[:16]}"
        return f"{self.server} ({identity})"


class ClusterIdentityHandler(Handler[ClusterIdentityInputs]):
    """Identifies the cluster once and compares it in every preview, update and refresh.

    The recorded identifier never changes. It is the UID of kube-system. For users without
    permission to read it, it is derived from the cluster's CA. Without either it is random, and
    clusters cannot be compared.
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
        # NamespaceOwner warns about an unreachable cluster.
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
            raise ResourceError("a ClusterIdentity cannot be imported: an update creates it")
        if state.get("rendered"):
            return {}
        try:
            current = refuse_another(self._clusters, state["namespace"], state["facts"])
        except UnreachableError as error:
            ctx.log(f"the recorded state is kept: {error}", level="warning")
            return {}
        recorded = ClusterFacts.recorded(state["facts"])
        if recorded.uid and recorded.uid == current.uid and current.authority:
            # The CA may have been renewed.
            return {"facts": {**asdict(recorded), "authority": current.authority}}
        return {}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """Do nothing: the cluster is not managed."""


def refuse_another(clusters: Clusters, namespace: str, recorded: Any) -> ClusterFacts:
    """The facts of the current cluster. Raises ResourceError if it is not the recorded cluster."""
    expected, current = ClusterFacts.recorded(recorded), _facts(clusters, namespace)
    if expected.differs(current):
        context = clusters.where.context
        raise ResourceError(
            f"this stack is on the cluster {expected}, but the kubeconfig"
            f"{f' (context {context})' if context else ''} leads to another cluster, {current}. "
            "Nothing was changed on either. For this stack, use a kubeconfig of its own cluster "
            "(KUBECONFIG, or mlops:kubernetes.kubeconfig and context). For the other cluster, "
            "create another stack (`pulumi stack init`), or run `pulumi destroy` on the former "
            "cluster first. If that cluster no longer exists, run `pulumi stack rm --force`."
            + ("" if expected.uid and current.uid else _RENEWED)
        )
    return current


_RENEWED = (
    " If the cluster is the same and only its CA was renewed, a user who may read the namespace "
    f"{_UID_NAMESPACE} must run `pulumi refresh` once."
)


def _facts(clusters: Clusters, namespace: str) -> ClusterFacts:
    """The facts of the current cluster.

    Raises UnreachableError, and RefusedError if the login itself is refused.
    """
    api = clusters.at(namespace)
    uid_namespace = _readable(api, f"api/v1/namespaces/{_UID_NAMESPACE}")
    uid = str(uid_namespace["metadata"]["uid"]) if uid_namespace else ""
    # The namespace of the stack has no ConfigMap if it does not exist yet.
    for each in (namespace, _UID_NAMESPACE):
        config_map = _readable(api, f"api/v1/namespaces/{each}/configmaps/{_CA_CONFIG_MAP}")
        if text := ((config_map or {}).get("data") or {}).get("ca.crt"):
            authority = hashlib.sha256(text.strip().encode()).hexdigest()
            return ClusterFacts(uid, authority, api.server())
    return ClusterFacts(uid, "", api.server())


def _readable(api: ClusterApi, path: str) -> Any:
    """The object, or None if it does not exist or the user has no permission to read it."""
    try:
        return api.read(path)
    except RefusedError as error:
        if error.status not in (httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND):
            raise
        return None


def _outputs(facts: ClusterFacts) -> dict[str, Any]:
    identifier = facts.uid or (f"ca-{facts.authority}" if facts.authority else str(uuid.uuid4()))
    return {"identifier": identifier, "facts": asdict(facts)}
