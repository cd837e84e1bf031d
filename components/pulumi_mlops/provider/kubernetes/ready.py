"""`mlops:kubernetes:Ready`: a workload that was changed, waited for and explained."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ..errors import ResourceError, UnreachableError
from ..handler import Context, Handler, Inputs
from ..values import Known
from .wait import Wait
from .workloads import is_complete


class ReadyInputs(Inputs):
    """What is waited for, and for how long."""

    kind: Known[Literal["Deployment", "StatefulSet", "Job"]] = Field(description="Replaces.")
    namespace: Known[str] = Field(description="Where it is. Replaces.")
    name: Known[str] = Field(description="What it is called. Replaces.")
    generation: Known[float | None] = Field(
        None, description="The workload's `metadata.generation`: another one is waited for anew."
    )
    uid: Known[str | None] = Field(
        None, description="Its `metadata.uid`: one that was replaced is waited for anew."
    )
    table: Known[Any] = Field(
        None, description="The traffic table that each pod of a route must have taken over."
    )
    timeout_seconds: float = Field(600, gt=0, description="How long it may take.")


class ReadyHandler(Handler[ReadyInputs]):
    """Waits; makes and deletes nothing of its own."""

    token = "mlops:kubernetes:Ready"
    description = (
        "A Deployment or StatefulSet with all its pods ready, or a Job that has completed. What "
        "does not start is told with its last events and log lines."
    )
    inputs = ReadyInputs
    outputs: ClassVar[dict[str, str]] = {"outputs": "object", "status": "string"}
    replace_on = frozenset({"kind", "namespace", "name"})
    ignore_in_diff = frozenset({"timeoutSeconds"})

    def preview(self, ctx: Context, new: ReadyInputs, old: dict[str, Any] | None) -> dict[str, Any]:
        known: dict[str, Any] = {"status": "ready"}
        if new.kind != "Job":
            known["outputs"] = {}
        elif old is not None:
            known["outputs"] = old.get("outputs")
        return known

    def create(self, ctx: Context, new: ReadyInputs) -> tuple[str, dict[str, Any]]:
        wait = Wait(ctx, new.kind, new.namespace, new.name, new.timeout_seconds)
        if new.kind == "Job":
            outputs = wait.for_job()
        else:
            wait.for_pods()
            if new.table is not None:
                wait.for_table(new.table)
            outputs = {}
        return f"{new.namespace}/{new.kind}/{new.name}", {"outputs": outputs, "status": "ready"}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: ReadyInputs
    ) -> dict[str, Any]:
        return self.create(ctx, new)[1]

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not state:
            raise ResourceError("a wait cannot be imported: leave it out, the next update makes it")
        namespace, kind, name = resource_id.split("/")
        try:
            found = ctx.clusters.at(namespace).get(kind, name)
        except UnreachableError as error:
            ctx.log(f"left as recorded: {error}", level="warning")
            return {}
        if found is None:
            return None
        return {} if kind == "Job" else {"status": "ready" if is_complete(found) else "not ready"}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """There is nothing of it."""
