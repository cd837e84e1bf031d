"""The objects of a stack on its cluster, found by their labels without the engine."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec

from ....cli.selection import CommandError, Stack
from ..api.client import ClusterApi
from ..api.location import Where
from ..api.pods import Manifest

NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
KINDS = (
    "Deployment", "StatefulSet", "Job", "CronJob", "Pod", "Service", "PersistentVolumeClaim",
)  # fmt: skip


@dataclass(frozen=True)
class Inventory:
    """The objects of one stack, by kind."""

    objects: dict[str, list[Manifest]] = field(default_factory=dict)

    def of(self, *kinds: str) -> list[Manifest]:
        """The objects of some kinds, sorted by name."""
        found = [each for kind in kinds for each in self.objects.get(kind, [])]
        return sorted(found, key=lambda each: str(each["metadata"]["name"]))

    def pods(self, name: str) -> list[Manifest]:
        """The pods of the workload or job `name`, oldest first."""
        return sorted((pod for pod in self.of("Pod") if name_of(pod) == name), key=created_at)

    def jobs(self, name: str) -> list[Manifest]:
        """The runs of the job `name`, oldest first."""
        return sorted((job for job in self.of("Job") if name_of(job) == name), key=created_at)

    def pods_of_job(self, job: Manifest) -> list[Manifest]:
        """The pods of one run."""
        uid = job["metadata"]["uid"]
        return [
            pod
            for pod in self.of("Pod")
            if any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences", []))
        ]

    def names(self, *kinds: str) -> list[str]:
        """The names that the stack uses for the objects of some kinds."""
        return sorted({name_of(each) for each in self.of(*kinds)})

    def job_names(self) -> list[str]:
        """The names of all jobs, with or without a run."""
        templates = {
            name_of(each)
            for each in self.of("CronJob")
            if each["metadata"]["labels"][COMPONENT] == "job"
        }
        return sorted(templates | set(self.names("Job")))


def connect(stack: Stack) -> ClusterApi:
    """A client of the stack's cluster. Raises CommandError if kr8s is not installed."""
    if find_spec("kr8s") is None:
        raise CommandError(
            f"{stack.name} runs on a cluster, and kr8s is not installed: "
            "pip install 'pulumi-mlops[kubernetes]'"
        )
    location = {key: stack.settings.get(key) for key in Where.__dataclass_fields__}
    if location["kubeconfig"]:
        location["kubeconfig"] = str(stack.folder / str(location["kubeconfig"]))
    return ClusterApi(Where(**{key: str(value) for key, value in location.items() if value}))


def instance(stack: Stack) -> str:
    """The label value of all objects of the stack."""
    from ..names import label  # noqa: PLC0415 - it takes Pulumi along

    return label(f"{stack.project}-{stack.name}")


def list_objects(api: ClusterApi, stack: Stack, kinds: Iterable[str] = KINDS) -> Inventory:
    """List the objects of the stack, all kinds concurrently."""
    stack_label = instance(stack)

    def list_kind(kind: str) -> list[Manifest]:
        # Jobs of a CronJob have no labels. Their pods have.
        labels = {} if kind == "Job" else {INSTANCE: stack_label}
        found = [
            each for each in api.every(kind, labels) if labels_of(each).get(INSTANCE) == stack_label
        ]
        # The items of a list have no kind.
        return [{**each, "kind": kind} for each in found]

    kind_list = list(kinds)
    with ThreadPoolExecutor(max_workers=len(kind_list)) as pool:
        return Inventory(dict(zip(kind_list, pool.map(list_kind, kind_list), strict=True)))


def labels_of(found: Manifest) -> dict[str, str]:
    """The labels of an object, or else those of its pod template."""
    own: dict[str, str] = found["metadata"].get("labels") or {}
    template = found.get("spec", {}).get("template", {}).get("metadata", {})
    return own if INSTANCE in own else template.get("labels") or {}


def name_of(found: Manifest) -> str:
    """The name of the workload or job that an object belongs to."""
    return labels_of(found)[NAME]


def component(found: Manifest) -> str:
    """The component label of an object: `service`, `database`, `route`, `job`, `schedule`."""
    return labels_of(found).get(COMPONENT, "")


def created_at(found: Manifest) -> float:
    """The creation time of an object in seconds since the epoch."""
    return seconds(found["metadata"].get("creationTimestamp")) or 0.0


def seconds(stamp: str | None) -> float | None:
    """A timestamp of the cluster in seconds since the epoch."""
    return datetime.fromisoformat(stamp).timestamp() if stamp else None
