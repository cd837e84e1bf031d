"""`mlops:kubernetes:Ready`: waits until a changed object is ready, and explains failures."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar, Literal

from pydantic import Field

from ....plugin.errors import ResourceError, UnreachableError
from ....plugin.handler import Context, Handler, Inputs, OutputField
from ....plugin.values import OrUnknown
from ..api import gateways
from ..api.clusters import Clusters
from ..api.errors import RefusedError
from ..api.workloads import is_complete
from .cluster_identity import refuse_another
from .wait import Wait

_METRICS = "apis/metrics.k8s.io/v1beta1"


class ReadyInputs(Inputs):
    """Inputs of `mlops:kubernetes:Ready`."""

    kind: OrUnknown[Literal["Deployment", "StatefulSet", "Job", "HTTPRoute"]] = Field(
        description="Kind of the object."
    )
    namespace: OrUnknown[str] = Field(description="Namespace of the object.")
    name: OrUnknown[str] = Field(description="Name of the object.")
    generation: OrUnknown[float | None] = Field(
        None,
        description="`metadata.generation` of the object. A change starts another wait. Default: "
        "not compared.",
    )
    uid: OrUnknown[str | None] = Field(
        None,
        description="`metadata.uid` of the object. A change starts another wait. Default: not "
        "compared.",
    )
    content: OrUnknown[str | None] = Field(
        None,
        description="Content of an object whose generation an autoscaler changes. A change starts "
        "another wait. Default: not compared.",
    )
    replicas: OrUnknown[float | None] = Field(
        None,
        description="Minimum number of pods of an autoscaled object. Default: the replicas of its "
        "spec.",
    )
    table: OrUnknown[Any] = Field(
        None,
        description="Traffic table that each pod of a route must have applied. Default: not "
        "checked.",
    )
    cluster: OrUnknown[Any] = Field(
        None,
        description="`facts` of the ClusterIdentity. Nothing is deleted on another cluster. "
        "Default: not compared.",
    )
    timeout_seconds: float = Field(600, gt=0, description="Time limit of the wait, in seconds.")


class ReadyHandler(Handler[ReadyInputs]):
    """Waits for an object. Creates and deletes nothing on the cluster.

    Its deletion fails on another cluster than the recorded one. This protects `pulumi destroy`,
    which runs no program and therefore no other comparison.
    """

    token = "mlops:kubernetes:Ready"
    description = (
        "A wait until all pods of a Deployment or StatefulSet are ready, a Job has completed, or a "
        "Gateway has accepted an HTTPRoute. The error of an object that does not become ready has "
        "its last events and log lines."
    )
    inputs = ReadyInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "outputs": OutputField(dict[str, Any], "Outputs of a Job. Empty for other kinds."),
        "status": OutputField(str, "`ready` or `not ready`."),
    }
    replace_on = frozenset({"kind", "namespace", "name"})
    ignore_in_diff = frozenset({"timeoutSeconds", "cluster"})

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        # A state of version 0.1.0 has no cluster to compare with when it is destroyed.
        return {} if state.get("cluster") else {"cluster": "not recorded"}

    def preview(self, ctx: Context, new: ReadyInputs, old: dict[str, Any] | None) -> dict[str, Any]:
        known: dict[str, Any] = {"status": "ready"}
        if new.kind != "Job":
            known["outputs"] = {}
        elif old is not None:
            known["outputs"] = old.get("outputs")
        return known

    def create(self, ctx: Context, new: ReadyInputs) -> tuple[str, dict[str, Any]]:
        wait = Wait(
            self._clusters,
            ctx,
            kind=new.kind,
            namespace=new.namespace,
            name=new.name,
            timeout=new.timeout_seconds,
        )
        outputs: dict[str, Any] = {}
        if new.kind == "Job":
            outputs = wait.for_job()
        elif new.kind == "HTTPRoute":
            wait.for_gateway()
        else:
            wait.for_pods(new.replicas)
            if new.replicas is not None:
                _warn_without_metrics(self._clusters, ctx, new)
            if new.table is not None:
                wait.for_table(new.table)
        return f"{new.namespace}/{new.kind}/{new.name}", {"outputs": outputs, "status": "ready"}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: ReadyInputs
    ) -> dict[str, Any]:
        return self.create(ctx, new)[1]

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not state:
            raise ResourceError("a Ready resource cannot be imported: an update creates it")
        namespace, kind, name = resource_id.split("/")
        try:
            found = self._clusters.at(namespace).get(kind, name)
        except UnreachableError as error:
            ctx.log(f"the recorded state is kept: {error}", level="warning")
            return {}
        if found is None:
            return None
        if kind == "Job":
            return {}
        if kind == "HTTPRoute":
            complete = gateways.refusals(found) == []
        else:
            complete = is_complete(found, state.get("replicas"))
        return {"status": "ready" if complete else "not ready"}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        # The engine deletes this resource before the workload and everything it depends on.
        with contextlib.suppress(UnreachableError, RefusedError):
            refuse_another(self._clusters, old["namespace"], old.get("cluster"))


def _warn_without_metrics(clusters: Clusters, ctx: Context, new: ReadyInputs) -> None:
    """Warn if the cluster has no metrics server: the autoscaler then never adds pods."""
    try:
        clusters.at(new.namespace).request("GET", _METRICS)
    except RefusedError as error:
        ctx.log(
            f"the cluster does not measure the CPU use of pods, so {new.name} keeps "
            f"{new.replicas:g} replicas (max_replicas has no effect): install metrics-server "
            f"({error})",
            level="warning",
        )
