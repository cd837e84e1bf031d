"""A cluster in memory, and a clock that goes on only when somebody waits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pulumi_mlops.plugin.handler import Context
from pulumi_mlops.targets.kubernetes.api.errors import RefusedError
from pulumi_mlops.targets.kubernetes.api.location import Where
from pulumi_mlops.targets.kubernetes.resources import wait
from pulumi_mlops.targets.kubernetes.resources.ready import ReadyHandler, ReadyInputs

from .provider_fixtures import Log, make_context

Manifest = dict[str, Any]
Step = Callable[[], object]


class Answer:
    """What a pod answered."""

    def __init__(self, value: Any) -> None:
        self.text = value if isinstance(value, str) else json.dumps(value)

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class FakeCluster:
    """Stands for Clusters and for a ClusterApi."""

    objects: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    events: list[Manifest] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    previous_logs: dict[str, str] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    readiness: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, Manifest] = field(default_factory=dict)
    address: str = "https://cluster:6443"
    forbidden: set[str] = field(default_factory=set)
    refused: dict[tuple[str, str], Exception] = field(default_factory=dict)
    fails: Exception | None = None
    done: list[tuple[str, str]] = field(default_factory=list)
    applied: list[tuple[Manifest, str]] = field(default_factory=list)
    where: Where = field(default_factory=Where)

    def at(self, namespace: str) -> FakeCluster:
        assert namespace == "team"
        return self

    def put(self, *objects: Manifest) -> None:
        for each in objects:
            self.objects[each["kind"], each["metadata"]["name"]] = each

    def warn(self, about: Manifest, reason: str, message: str | None, **more: Any) -> None:
        self.events.append({
            "type": "Warning", "reason": reason, "message": message,
            "lastTimestamp": f"2026-01-01T00:00:{len(self.events):02}Z", **more,
            "about": f"involvedObject.kind={about['kind']},"
                     f"involvedObject.name={about['metadata']['name']}",
        })  # fmt: skip

    def _look(self, kind: str) -> None:
        if self.fails is not None:
            raise self.fails
        if kind in self.forbidden:
            raise RefusedError(f"the cluster forbids it: {kind}", 403)

    def get(self, kind: str, name: str) -> Manifest | None:
        self._look(kind)
        return self.objects.get((kind, name))

    def list_objects(
        self, kind: str, labels: Mapping[str, str] | None = None, fields: str = ""
    ) -> list[Manifest]:
        self._look(kind)
        if kind == "Event":
            return [each for each in self.events if each["about"] == fields]
        return [
            each
            for (at, _), each in self.objects.items()
            if at == kind and (labels or {}).items() <= each["metadata"].get("labels", {}).items()
        ]

    def create(self, kind: str, manifest: Manifest) -> Manifest:
        name = manifest["metadata"]["name"]
        if (kind, name) in self.refused:
            raise self.refused[kind, name]
        if (kind, name) in self.objects:
            raise RefusedError("the cluster refused: it is there already", 409)
        self.done.append(("create", name))
        self.objects[kind, name] = manifest
        return manifest

    def read(self, path: str) -> Manifest:
        """The object at a path."""
        if self.fails is not None:
            raise self.fails
        if path in self.forbidden:
            raise RefusedError("the cluster forbids it", 403)
        if path not in self.paths:
            raise RefusedError("the cluster refused: not found", 404)
        return self.paths[path]

    def server(self) -> str:
        return self.address

    def delete(self, kind: str, name: str) -> None:
        self.done.append(("delete", name))
        del self.objects[kind, name]

    def apply(self, kind: str, manifest: Manifest, manager: str) -> None:
        self.done.append(("apply", manifest["metadata"]["name"]))
        self.applied.append((manifest, manager))

    def log(self, pod: str, container: str, lines: int, previous: bool = False) -> str:
        logs = self.previous_logs if previous else self.logs
        return logs.get(pod if container == "main" else f"{pod}/{container}", "")

    def request(self, method: str, path: str) -> Answer:
        if path in self.forbidden:
            raise RefusedError("the cluster refused: 404 page not found", 404)
        return Answer({})

    def ask_pod(self, pod: str, port: int, path: str) -> Answer:
        answers = {(8082, "/state"): self.tables, (8080, "/ready"): self.readiness}[port, path]
        if pod not in answers:
            raise RefusedError("the cluster refused: no endpoints available", 503)
        return Answer(answers[pod])


class Waiting:
    """Stands for the event of an interruption: each wait is a step of the test's story."""

    def __init__(self, steps: Iterable[Step | None]) -> None:
        self.now = 1000.0
        self._steps = iter(steps)

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        step = next(self._steps, None)
        return bool(step is not None and step() is Waiting)

    def monotonic(self) -> float:
        return self.now


@dataclass
class Ready:
    """The handler as the plugin calls it."""

    cluster: FakeCluster
    ctx: Context
    log: Log

    @property
    def handler(self) -> ReadyHandler:
        return ReadyHandler(self.cluster)  # type: ignore[arg-type]

    def create(self, kind: str = "Deployment", **inputs: Any) -> dict[str, Any]:
        given = {"kind": kind, "namespace": "team", "name": "tool", **inputs}
        return self.handler.create(self.ctx, ReadyInputs.model_validate(given))[1]


def begin(root: Path, monkeypatch: Any, *steps: Step | None) -> Ready:
    """A handler on an empty cluster; each of its pauses takes the next step."""
    cluster, log, waiting = FakeCluster(), Log(), Waiting(steps)
    monkeypatch.setattr(wait, "time", waiting)
    made = make_context(root, "mlops:kubernetes:Ready", log=log)
    ctx = replace(made, cancelled=waiting)  # type: ignore[arg-type]
    return Ready(cluster, ctx, log)


LABELS = {"app": "tool"}


def workload(kind: str = "Deployment", generation: int = 1, **status: Any) -> Manifest:
    return {
        "kind": kind,
        "metadata": {"name": "tool", "generation": generation},
        "spec": {"replicas": 2, "selector": {"matchLabels": LABELS}},
        "status": {"observedGeneration": generation, **status},
    }


def rolled_out(kind: str = "Deployment", generation: int = 1) -> Manifest:
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 2)
    revision = {"currentRevision": "a", "updateRevision": "a"}
    return workload(kind, generation, **counts, **revision)


def replica_set(revision: int = 1) -> Manifest:
    name = f"tool-{revision}"
    return {
        "kind": "ReplicaSet",
        "metadata": {
            "name": name, "uid": f"uid-{name}", "labels": LABELS,
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
        },
    }  # fmt: skip


def pod(name: str = "tool-1-a", *, ready: bool = False, **status: Any) -> Manifest:
    """Of the ReplicaSet that its name begins with."""
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "kind": "Pod",
        "metadata": {
            "name": name, "uid": f"uid-{name}", "labels": LABELS,
            "ownerReferences": [{"uid": f"uid-{name.rpartition('-')[0]}"}],
        },
        "spec": {"containers": [{"name": "main"}], "volumes": []},
        "status": {"conditions": conditions, "phase": "Running" if ready else "Pending", **status},
    }  # fmt: skip


def container(restarts: int = 0, last: Manifest | None = None, **state: Any) -> list[Manifest]:
    """The statuses of a pod's container, in this state."""
    found = {"name": "main", "ready": False, "restartCount": restarts, "state": state}
    return [{**found, "lastState": {"terminated": last}} if last else found]


def waiting(reason: str, message: str = "", restarts: int = 0) -> list[Manifest]:
    return container(restarts, waiting={"reason": reason, "message": message})


def unschedulable(message: str) -> Manifest:
    return pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                            "message": message}])  # fmt: skip


def job(state: str = "", message: str = "", **status: Any) -> Manifest:
    conditions = [{"type": state, "status": "True", "message": message}] if state else []
    return {**workload("Job"), "status": {"conditions": conditions, **status}}


def ended(message: str = "", code: int = 0) -> list[Manifest]:
    return container(terminated={"exitCode": code, "message": message, "reason": "Error"})
