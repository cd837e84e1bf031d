"""How everything of a stack on a cluster is."""

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
from .inventory import Inventory, begun, component, name_of, seconds


@dataclass(frozen=True)
class WorkloadCondition:
    """A Deployment or StatefulSet."""

    name: str
    kind: str
    healthy: bool
    state: str
    """`ready`, `updating` (enough pods, not all of the newest template), `degraded` (some pods
    answer, but not all), `not ready`, or `ending` (it is being deleted)."""
    reason: str
    """What keeps its pods from being ready."""
    ready: int
    wanted: int
    restarts: int
    age_seconds: float
    image: str
    urls: dict[str, str]
    """Addresses within the cluster, by port."""


@dataclass(frozen=True)
class JobCondition:
    """A job and how its latest run went."""

    name: str
    healthy: bool
    state: str
    """`running`, `succeeded`, `failed`, or `not run` when no run of it is known."""
    reason: str
    started: float | None
    seconds: float | None
    image: str
    outputs: dict[str, Any]


@dataclass(frozen=True)
class ScheduleCondition:
    """A CronJob and when it ran last."""

    name: str
    cron: str
    timezone: str
    last: float | None


@dataclass(frozen=True)
class VolumeCondition:
    """A volume, as far as the cluster knows it: how full it is, it does not say."""

    name: str
    state: str
    size: str
    storage_class: str


@dataclass(frozen=True)
class RouteCondition:
    """An endpoint's HTTPRoute, and what its Gateway says of it."""

    name: str
    healthy: bool
    state: str
    """`taken`, `refused`, or `waiting` (no controller has looked at it)."""
    reason: str
    host: str
    traffic: dict[str, int]
    """Weights, by the Service of a version."""


@dataclass(frozen=True)
class Condition:
    """All of a stack."""

    programs: list[WorkloadCondition] = field(default_factory=list)
    routes: list[RouteCondition] = field(default_factory=list)
    jobs: list[JobCondition] = field(default_factory=list)
    schedules: list[ScheduleCondition] = field(default_factory=list)
    volumes: list[VolumeCondition] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether nothing needs to be looked at."""
        return not self.ill

    @property
    def ill(self) -> list[WorkloadCondition | RouteCondition | JobCondition]:
        """What is not healthy."""
        parts: list[WorkloadCondition | RouteCondition | JobCondition]
        parts = [*self.programs, *self.routes, *self.jobs]
        return [part for part in parts if not part.healthy]


def examine(api: ClusterApi, found: Inventory) -> Condition:
    """What the objects say; of what has no pods, the cluster is asked why."""
    waiting = {name_of(each): each for each in found.of("CronJob") if component(each) == "job"}
    return Condition(
        programs=[_workload(api, found, each) for each in found.of("Deployment", "StatefulSet")],
        routes=[_route(each) for each in found.of("HTTPRoute")],
        jobs=[_job(found, name, waiting.get(name)) for name in found.job_names()],
        schedules=[
            ScheduleCondition(
                name=name_of(each),
                cron=each["spec"]["schedule"],
                timezone=each["spec"].get("timeZone", ""),
                last=seconds(each.get("status", {}).get("lastScheduleTime")),
            )
            for each in found.of("CronJob")
            if component(each) != "job"
        ],
        volumes=[
            VolumeCondition(
                name=each["metadata"]["name"],
                state=each.get("status", {}).get("phase", "Pending").lower(),
                size=each["spec"]["resources"]["requests"]["storage"],
                storage_class=each["spec"].get("storageClassName", ""),
            )
            for each in found.of("PersistentVolumeClaim")
        ],
    )


def _workload(api: ClusterApi, found: Inventory, workload: Manifest) -> WorkloadCondition:
    name, status = name_of(workload), workload.get("status", {})
    wanted, ready = workload["spec"].get("replicas", 1), status.get("readyReplicas", 0)
    pods = [pod for pod in found.pods(name) if "deletionTimestamp" not in pod["metadata"]]
    missing = [pod for pod in pods if not is_ready(pod)]
    state, reason = "ready", ""
    if "deletionTimestamp" in workload["metadata"]:
        state, reason = "ending", "it is being deleted"
    elif not is_complete(workload):
        state = "updating" if ready >= wanted else "degraded" if ready else "not ready"
        reason = explain.reason(missing[-1]) if missing else _no_pod(api, workload, pods)
    return WorkloadCondition(
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
        age_seconds=time.time() - begun(workload),
        image=_image(workload["spec"]["template"]),
        urls=_urls(found, name),
    )


def _no_pod(api: ClusterApi, workload: Manifest, pods: Sequence[Manifest]) -> str:
    """Why a workload has fewer pods than it should, as for a quota that is used up."""
    if len(pods) >= workload["spec"].get("replicas", 1):
        return ""
    owners = [(workload["kind"], workload["metadata"]["name"])]
    try:
        if workload["kind"] == "Deployment":
            labels = workload["spec"]["selector"]["matchLabels"]
            sets = sorted(api.every("ReplicaSet", labels), key=begun, reverse=True)
            owners += [("ReplicaSet", each["metadata"]["name"]) for each in sets[:1]]
        told = filter(None, (explain.owner(api, *owner) for owner in owners))
        return next(told, "no pod yet").partition("\n")[0]
    except ResourceError as error:
        return str(error)


def _job(found: Inventory, name: str, waiting: Manifest | None) -> JobCondition:
    runs = found.jobs(name)
    if not runs:
        template = waiting["spec"]["jobTemplate"]["spec"]["template"] if waiting else {}
        return JobCondition(name, True, "not run", "", None, None, _image(template), {})
    job = runs[-1]
    status, ended, pods = job.get("status", {}), job_end(job), found.pods_of_job(job)
    started = seconds(status.get("startTime"))
    finished = seconds(status.get("completionTime"))
    state, reason = "running", ""
    if ended is None and pods and (status.get("ready") or 0) == 0:
        reason = explain.reason(pods[-1])
    elif ended is not None:
        state = "succeeded" if ended[0] == "Complete" else "failed"
    if state == "failed":
        reason = ended[1] if ended else ""
        if codes := [explain.reason(pod) for pod in pods]:
            reason = codes[-1]
        finished = next(
            (
                seconds(each.get("lastTransitionTime"))
                for each in status["conditions"]
                if each["type"] == "Failed"
            ),
            None,
        )
    return JobCondition(
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


def _urls(found: Inventory, name: str) -> dict[str, str]:
    """The addresses of a workload's Service; one that stands for its pods alone has none."""
    urls = {}
    for service in found.of("Service"):
        if name_of(service) == name and service["spec"].get("clusterIP") != "None":
            host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
            scheme = "postgresql" if component(service) == "database" else "http"
            for port in service["spec"]["ports"]:
                urls[port["name"]] = f"{scheme}://{host}:{port['port']}"
    return urls


def _image(template: Manifest) -> str:
    """What tells an image from others of its name: its tag, or the beginning of its digest."""
    containers = template.get("spec", {}).get("containers", [])
    reference = str(containers[0]["image"]) if containers else ""
    if "@" in reference:
        return reference.partition("@")[2].removeprefix("sha256:")[:12]
    return reference.rpartition("/")[2].partition(":")[2][:12]


def _route(found: Manifest) -> RouteCondition:
    told = gateways.refusals(found)
    state = "waiting" if told is None else "refused" if told else "taken"
    unseen = "no controller has looked at it: `mlops doctor` looks for its Gateway"
    backends = [each for rule in found["spec"]["rules"] for each in rule["backendRefs"]]
    return RouteCondition(
        name=name_of(found),
        healthy=state == "taken",
        state=state,
        reason=unseen if told is None else "; ".join(told),
        host=next(iter(found["spec"].get("hostnames", [])), ""),
        traffic={each["name"]: each.get("weight", 1) for each in backends},
    )
