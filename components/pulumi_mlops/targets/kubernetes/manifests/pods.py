"""Pods: containers, what they are told and given, and how the cluster looks after them.

Every pod is admitted by the Pod Security Standard "restricted"
(kubernetes.io, "Pod Security Standards").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...port import Health, Resources
from ..names import variable
from .metadata import Manifest

USER = 10001
"""The numeric user of every image, so that `runAsNonRoot` can be checked."""
DATA_DIR, FILES_DIR, SCRATCH_DIR = "/data", "/files", "/tmp"  # noqa: S108 - a pod's own
OUTPUTS_FILE = f"{SCRATCH_DIR}/outputs.json"
# A Service without a pod that is ready refuses connections.
_UNTIL_ALL_ANSWER = """\
import socket, sys, time
told = None
for place in sys.argv[1:]:
    host, _, port = place.rpartition(":")
    while True:
        try:
            socket.create_connection((host, int(port)), 5).close()
            break
        except OSError as error:
            if told != (told := f"waits for {place}: {error}"):
                print(told, flush=True)
            time.sleep(1)
"""
FIRST_PORT = 8080
_DRAIN_SECONDS = 5
"""How long a pod that is to end goes on: until every proxy has noticed that it is not ready."""
_RESTRICTED_POD = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    # A volume with many files would be changed file by file at each start.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
_RESTRICTED_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def ports(wanted: Mapping[str, int | None]) -> dict[str, int]:
    """A number for each port: a pod has an address of its own, so they are the same everywhere."""
    numbers = {}
    free = FIRST_PORT
    taken = {number for number in wanted.values() if number}
    for name, number in wanted.items():
        while number is None and free in taken:
            free += 1
        numbers[name] = number or free
        taken.add(numbers[name])
    return numbers


def environment(
    plain: Mapping[str, Any], secrets: Sequence[str], secret_name: str, first: Sequence[Manifest]
) -> list[Manifest]:
    """Variables: `first`, since later ones may use them, then the others by name."""
    return [
        *first,
        *({"name": name, "value": plain[name]} for name in sorted(plain)),
        *(
            {"name": name, "valueFrom": {"secretKeyRef": {"name": secret_name, "key": name}}}
            for name in sorted(secrets)
        ),
    ]


def service_variables(numbers: Mapping[str, int], data: bool, files: bool) -> list[Manifest]:
    """What every service is told by its surroundings."""
    found: list[Manifest] = [
        {"name": "HOST", "value": "0.0.0.0"},  # noqa: S104 - a pod has an address of its own
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "RUNTIME_DIR", "value": SCRATCH_DIR},
    ]
    if "http" in numbers:
        found.append({"name": "PORT", "value": str(numbers["http"])})
    found += [{"name": variable(name), "value": str(numbers[name])} for name in numbers]
    if data:
        found.append({"name": "DATA_DIR", "value": DATA_DIR})
    if files:
        found.append({"name": "FILES_DIR", "value": FILES_DIR})
    return found


def container(
    name: str,
    image: Any,
    command: Sequence[Any],
    env: Sequence[Manifest],
    *,
    numbers: Mapping[str, int] | None = None,
    mounts: Sequence[Manifest] = (),
    resources: Manifest | None = None,
) -> Manifest:
    """One container that may write to its scratch folder and its volumes, and nowhere else."""
    found: Manifest = {
        "name": name,
        "image": image,
        "command": list(command),
        "securityContext": _RESTRICTED_CONTAINER,
        "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH_DIR}, *mounts],
        # The last lines of its log stand in its status when it fails without a message.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    # Lists only where there is something in them: the API server leaves out an empty one, and tools
    # that compare it with a file would go on finding a difference.
    if env:
        found["env"] = list(env)
    if resources:
        found["resources"] = resources
    if numbers:
        found["ports"] = [
            {"name": port, "containerPort": number} for port, number in numbers.items()
        ]
    return found


def resources(
    wanted: Resources, *, memory: str = "256Mi", most: str = "2Gi", cpu: str = "100m"
) -> Manifest:
    """Requests and limits. What is asked for in memory is requested and the limit; without it the
    least is requested, and it may take more. No limit of cores: it would only make it wait."""
    given = {"cpu": cpu if wanted.cpu is None else f"{round(wanted.cpu * 1000)}m"}
    asked = memory if wanted.memory is None else str(wanted.memory)
    limits = {"memory": most if wanted.memory is None else asked}
    if wanted.gpu:
        limits["nvidia.com/gpu"] = str(wanted.gpu)
    return {"requests": {**given, "memory": asked}, "limits": limits}


def probes(health: Health, numbers: Mapping[str, int]) -> Manifest:
    """Ready when it answers; started within the time it has; alive while its port is open.

    A process that hangs is not ready and gets no requests; only one that does not even take a
    connection for a minute is started anew, so that a busy model server is left alone.
    """
    port = numbers[health.port]
    check: Manifest = (
        {"httpGet": {"path": health.path, "port": port}}
        if health.path
        else {"tcpSocket": {"port": port}}
    )
    return {
        "startupProbe": {
            **check,
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": max(1, round(health.timeout / 2)),
        },
        "readinessProbe": {
            **check,
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            "tcpSocket": {"port": port},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    }


def preparing(
    name: str, image: Any, command: Sequence[Any], *, secret: str | None = None
) -> Manifest:
    """A small container that runs before the others; its variables are those of a `secret`."""
    found = container(
        name, image, command, [], resources=resources(Resources(), memory="64Mi", most="256Mi")
    )
    return found if secret is None else {**found, "envFrom": [{"secretRef": {"name": secret}}]}


def until_all_answer(places: Sequence[str]) -> list[str]:
    """A command that ends once something answers at each of the places (`host:port`)."""
    return ["python", "-c", _UNTIL_ALL_ANSWER, *places]


def pod(
    containers: Sequence[Manifest],
    *,
    first: Sequence[Manifest] = (),
    volumes: Sequence[Manifest] = (),
    account: str | None = None,
    placement: Mapping[str, Any] | None = None,
    stop_seconds: float | None = None,
) -> Manifest:
    """A pod's spec. It gets a token of the API only with a service account of its own. The
    containers that run `first` do so one after the other."""
    found: Manifest = {
        "automountServiceAccountToken": account is not None,
        "enableServiceLinks": False,
        "securityContext": _RESTRICTED_POD,
        "containers": list(containers),
        "volumes": [{"name": "scratch", "emptyDir": {}}, *volumes],
        **(placement or {}),
    }
    if first:
        found["initContainers"] = list(first)
    if account is not None:
        found["serviceAccountName"] = account
    if stop_seconds is not None:
        found["terminationGracePeriodSeconds"] = round(stop_seconds) + _DRAIN_SECONDS
    return found


def draining(container: Manifest, how: Manifest | None = None) -> Manifest:
    """The same, but it goes on for a while once it is to end: requests are still on their way.

    `how` is a hook that does so; without one it sleeps.
    """
    hook = how or {"sleep": {"seconds": _DRAIN_SECONDS}}
    return {**container, "lifecycle": {"preStop": hook}}


def template(
    all_labels: Mapping[str, str],
    spec: Manifest,
    version: Any = None,
    more_labels: Mapping[str, str] | None = None,
) -> Manifest:
    """A pod's template. A changed `version` means new pods, as for a Secret's content."""
    metadata: Manifest = {"labels": {**all_labels, **(more_labels or {})}}
    if version is not None:
        metadata["annotations"] = {"mlops/content": version}
    return {"metadata": metadata, "spec": spec}
