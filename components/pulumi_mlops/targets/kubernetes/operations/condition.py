"""The status of a stack on a cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ....plugin.errors import ResourceError
from ..api import explain, gateways
from ..api.client import ClusterApi
from ..api.pods import Manifest, is_ready
from ..api.workloads import is_complete, job_end, job_outputs
from .inventory import Inventory, component, created_at, name_of, seconds


@dataclass(frozen=True)
class WorkloadStatus:
    """A Deployment or StatefulSet."""

    name: str
    kind: str
    healthy: bool
    state: str
    """`ready`, `updating` (enough pods are ready, some of an older template), `degraded` (some
    pods are ready), `not ready`, or `ending` (it is being deleted)."""
    reason: str
    """Why pods are not ready."""
    ready: int
    wanted: int
    restarts: int
    age_seconds: float
    image: str
    urls: dict[str, str]
    """Addresses within the cluster, by port."""


@dataclass(frozen=True)
class ClusterJobStatus:
    """A job and the result of its latest run."""

    name: str
    healthy: bool
    state: str
    """`running`, `succeeded`, `failed`, or `not run` without a known run."""
    reason: str
    started: float | None
    seconds: float | None
    image: str
    outputs: dict[str, Any]


@dataclass(frozen=True)
class ScheduleStatus:
    """A CronJob and the time of its last run."""

    name: str
    cron: str
    timezone: str
    last: float | None


@dataclass(frozen=True)
class ClusterVolumeStatus:
    """A volume. The API of the cluster does not report its usage."""

    name: str
    state: str
    size: str
    storage_class: str


@dataclass(frozen=True)
class RouteStatus:
    """The HTTPRoute of an endpoint, and the state that its Gateway reports."""

    name: str
    healthy: bool
    state: str
    """`taken` (accepted), `refused`, or `waiting` (no controller has processed it)."""
    reason: str
    host: str
    traffic: dict[str, int]
    """Weights by the Service of each model version."""


@dataclass(frozen=True)
class ClusterStatus:
    """The status of a whole stack."""

    programs: list[WorkloadStatus] = field(default_factory=list)
    routes: list[RouteStatus] = field(default_factory=list)
    jobs: list[ClusterJobStatus] = field(default_factory=list)
    schedules: list[ScheduleStatus] = field(default_factory=list)
    volumes: list[ClusterVolumeStatus] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether everything is healthy."""
        return not self.unhealthy

    @property
    def unhealthy(self) -> list[WorkloadStatus | RouteStatus | ClusterJobStatus]:
        """The programs, routes and jobs that are not healthy."""
        parts: list[WorkloadStatus | RouteStatus | ClusterJobStatus]
        parts = [*self.programs, *self.routes, *self.jobs]
        return [part for part in parts if not part.healthy]


def examine(api: ClusterApi, inventory: Inventory) -> ClusterStatus:
    """The status by the objects. Events explain workloads without pods."""
    templates = {
        name_of(each): each for each in inventory.of("CronJob") if component(each) == "job"
    }
    return ClusterStatus(
        programs=[
            _workload(api, inventory, each) for each in inventory.of("Deployment", "StatefulSet")
        ],
        routes=[_route(each) for each in inventory.of("HTTPRoute")],
        jobs=[_job(inventory, name, templates.get(name)) for name in inventory.job_names()],
        schedules=[
            ScheduleStatus(
                name=name_of(each),
                cron=each["spec"]["schedule"],
                timezone=each["spec"].get("timeZone", ""),
                last=seconds(each.get("status", {}).get("lastScheduleTime")),
            )
            for each in inventory.of("CronJob")
            if component(each) != "job"
        ],
        volumes=[
            ClusterVolumeStatus(
                name=each["metadata"]["name"],
                state=each.get("status", {}).get("phase", "Pending").lower(),
                size=each["spec"]["resources"]["requests"]["storage"],
                storage_class=each["spec"].get("storageClassName", ""),
            )
            for each in inventory.of("PersistentVolumeClaim")
        ],
    )


def _workload(api: ClusterApi, inventory: Inventory, workload: Manifest) -> WorkloadStatus:
    name, status = name_of(workload), workload.get("status", {})
    wanted, ready = workload["spec"].get("replicas", 1), status.get("readyReplicas", 0)
    pods = [pod for pod in inventory.pods(name) if "deletionTimestamp" not in pod["metadata"]]
    missing = [pod for pod in pods if not is_ready(pod)]
    state, reason = "ready", ""
    if "deletionTimestamp" in workload["metadata"]:
        state, reason = "ending", "it is being deleted"
    elif not is_complete(workload):
        state = "updating" if ready >= wanted else "degraded" if ready else "not ready"
        reason = explain.reason(missing[-1]) if missing else _missing_pods(api, workload, pods)
    return WorkloadStatus(
        name=name,
        kind=workload["kind"],
        healthy=state == "ready",
        state=state,
        reason=reason,
        ready=ready,
        wanted=wanted,
        restarts=sum(
            each.get("restartCount", 0)
            for pod in pods
            for each in pod.get("status", {}).get("containerStatuses", [])
        ),
        age_seconds=time.time() - created_at(workload),
        image=_image(workload["spec"]["template"]),
        urls=_urls(inventory, name),
    )


def _missing_pods(api: ClusterApi, workload: Manifest, pods: Sequence[Manifest]) -> str:
    """Why a workload has too few pods, such as an exceeded quota. Empty if it has enough."""
    if len(pods) >= workload["spec"].get("replicas", 1):
        return ""
    owners = [(workload["kind"], workload["metadata"]["name"])]
    try:
        if workload["kind"] == "Deployment":
            labels = workload["spec"]["selector"]["matchLabels"]
            sets = sorted(api.list_objects("ReplicaSet", labels), key=created_at, reverse=True)
            owners += [("ReplicaSet", each["metadata"]["name"]) for each in sets[:1]]
        reasons = filter(None, (explain.owner(api, *owner) for owner in owners))
        return next(reasons, "no pod yet").partition("\n")[0]
    except ResourceError as error:
        return str(error)


def _job(inventory: Inventory, name: str, cron_job: Manifest | None) -> ClusterJobStatus:
    runs = inventory.jobs(name)
    if not runs:
        template = cron_job["spec"]["jobTemplate"]["spec"]["template"] if cron_job else {}
        return ClusterJobStatus(name, True, "not run", "", None, None, _image(template), {})
    job = runs[-1]
    status, end, pods = job.get("status", {}), job_end(job), inventory.pods_of_job(job)
    started = seconds(status.get("startTime"))
    finished = seconds(status.get("completionTime"))
    state, reason = "running", ""
    if end is None and pods and (status.get("ready") or 0) == 0:
        reason = explain.reason(pods[-1])
    elif end is not None:
        state = "succeeded" if end[0] == "Complete" else "failed"
    if state == "failed":
        reason = end[1] if end else ""
        if reasons := [explain.reason(pod) for pod in pods]:
            reason = reasons[-1]
        finished = next(
            (
                seconds(each.get("lastTransitionTime"))
                for each in status["conditions"]
                if each["type"] == "Failed"
            ),
            None,
        )
    return ClusterJobStatus(
        name=name,
        healthy=state != "failed",
        state=state,
        reason=reason,
        started=started,
        seconds=finished - started if finished and started else None,
        image=_image(job["spec"]["template"]),
        outputs=_outputs(name, pods) if state == "succeeded" else {},
    )


def _outputs(name: str, pods: Sequence[Manifest]) -> dict[str, Any]:
    try:
        return job_outputs(name, pods)
    except ResourceError:
        return {}


def _urls(inventory: Inventory, name: str) -> dict[str, str]:
    """The URLs of a workload's Services by port. Headless Services have none."""
    urls = {}
    for service in inventory.of("Service"):
        if name_of(service) == name and service["spec"].get("clusterIP") != "None":
            host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
            scheme = "postgresql" if component(service) == "database" else "http"
            for port in service["spec"]["ports"]:
                urls[port["name"]] = f"{scheme}://{host}:{port['port']}"
    return urls


def _image(template: Manifest) -> str:
    """The tag of an image, or the first characters of its digest."""
    containers = template.get("spec", {}).get("containers", [])
    reference = str(containers[0]["image"]) if containers else ""
    if "@" in reference:
        return reference.partition("@")[2].removeprefix("sha256:")[:12]
    return reference.rpartition("/")[2].partition(":")[2][:12]


def _route(route: Manifest) -> RouteStatus:
    refusals = gateways.refusals(route)
    state = "waiting" if refusals is None else "refused" if refusals else "taken"
    unprocessed = "no controller has processed it: `mlops doctor` checks its Gateway"
    backends = [each for rule in route["spec"]["rules"] for each in rule["backendRefs"]]
    return RouteStatus(
        name=name_of(route),
        healthy=state == "taken",
        state=state,
        reason=unprocessed if refusals is None else "; ".join(refusals),
        host=next(iter(route["spec"].get("hostnames", [])), ""),
        traffic={each["name"]: each.get("weight", 1) for each in backends},
    )
