"""What a stack has on its cluster: found by its labels, without the engine."""

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
        """Those of some kinds, by name."""
        found = [each for kind in kinds for each in self.objects.get(kind, [])]
        return sorted(found, key=lambda each: str(each["metadata"]["name"]))

    def pods(self, name: str) -> list[Manifest]:
        """The pods of what is called `name`, the oldest first."""
        return sorted((pod for pod in self.of("Pod") if name_of(pod) == name), key=begun)

    def jobs(self, name: str) -> list[Manifest]:
        """The runs of the job `name`, the latest last."""
        return sorted((job for job in self.of("Job") if name_of(job) == name), key=begun)

    def pods_of_job(self, job: Manifest) -> list[Manifest]:
        """The pods of one run."""
        uid = job["metadata"]["uid"]
        return [
            pod
            for pod in self.of("Pod")
            if any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences", []))
        ]

    def names(self, *kinds: str) -> list[str]:
        """What the objects of some kinds are called."""
        return sorted({name_of(each) for each in self.of(*kinds)})

    def job_names(self) -> list[str]:
        """The jobs that can be run: those that have run, and those that wait to be."""
        waiting = {
            name_of(each)
            for each in self.of("CronJob")
            if each["metadata"]["labels"][COMPONENT] == "job"
        }
        return sorted(waiting | set(self.names("Job")))


def connect(stack: Stack) -> ClusterApi:
    """The API of the stack's cluster. Raises CommandError without what it takes to reach one."""
    if find_spec("kr8s") is None:
        raise CommandError(
            f"{stack.name} runs on a cluster, which needs kr8s: "
            "pip install 'pulumi-mlops[kubernetes]'"
        )
    given = {key: stack.settings.get(key) for key in Where.__dataclass_fields__}
    if given["kubeconfig"]:
        given["kubeconfig"] = str(stack.folder / str(given["kubeconfig"]))
    return ClusterApi(Where(**{key: str(value) for key, value in given.items() if value}))


def instance(stack: Stack) -> str:
    """What the objects of the stack are labelled with."""
    from ..names import label  # noqa: PLC0415 - it takes Pulumi along

    return label(f"{stack.project}-{stack.name}")


def take(api: ClusterApi, stack: Stack, kinds: Iterable[str] = KINDS) -> Inventory:
    """Ask for all kinds at the same time."""
    ours = instance(stack)

    def ask(kind: str) -> list[Manifest]:
        # What a CronJob makes has no labels of its own; its pods have.
        labels = {} if kind == "Job" else {INSTANCE: ours}
        found = [each for each in api.every(kind, labels) if labels_of(each).get(INSTANCE) == ours]
        # The items of a list do not say what they are.
        return [{**each, "kind": kind} for each in found]

    wanted = list(kinds)
    with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
        return Inventory(dict(zip(wanted, pool.map(ask, wanted), strict=True)))


def labels_of(found: Manifest) -> dict[str, str]:
    """An object's labels, or those of its pods."""
    own: dict[str, str] = found["metadata"].get("labels") or {}
    template = found.get("spec", {}).get("template", {}).get("metadata", {})
    return own if INSTANCE in own else template.get("labels") or {}


def name_of(found: Manifest) -> str:
    """What an object belongs to, as the stack calls it."""
    return labels_of(found)[NAME]


def component(found: Manifest) -> str:
    """What kind of thing it belongs to: `service`, `database`, `route`, `job`, `schedule`."""
    return labels_of(found).get(COMPONENT, "")


def begun(found: Manifest) -> float:
    """When an object was made, in seconds since the epoch."""
    return seconds(found["metadata"].get("creationTimestamp")) or 0.0


def seconds(stamp: str | None) -> float | None:
    """A time of the cluster in seconds since the epoch."""
    return datetime.fromisoformat(stamp).timestamp() if stamp else None
