"""Pods: containers with their variables, volumes, resources and probes.

Every pod meets the Pod Security Standard "restricted"
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
DATA_DIR, FETCHED_DIR, FILES_DIR = "/data", "/fetched", "/files"
SCRATCH_DIR = "/tmp"  # noqa: S108 - private to the pod
OUTPUTS_FILE = f"{SCRATCH_DIR}/outputs.json"
# A Service without a ready pod refuses connections.
_WAIT_SCRIPT = """\
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
"""Seconds before a pod stops, in which every proxy notices that it is not ready."""
_RESTRICTED_POD = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    # Without it, each start changes the ownership of every file in a volume.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
_RESTRICTED_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def port_numbers(ports: Mapping[str, int | None]) -> dict[str, int]:
    """A number for each port. All replicas use the same numbers: each pod has its own address."""
    numbers = {}
    next_number = FIRST_PORT
    assigned = {number for number in ports.values() if number}
    for name, number in ports.items():
        while number is None and next_number in assigned:
            next_number += 1
        numbers[name] = number or next_number
        assigned.add(numbers[name])
    return numbers


def environment(
    plain: Mapping[str, Any], secrets: Sequence[str], secret_name: str, base: Sequence[Manifest]
) -> list[Manifest]:
    """The variables of a container: `base`, then those that may refer to it, by name."""
    return [
        *base,
        *({"name": name, "value": plain[name]} for name in sorted(plain)),
        *(
            {"name": name, "valueFrom": {"secretKeyRef": {"name": secret_name, "key": name}}}
            for name in sorted(secrets)
        ),
    ]


def base_environment(numbers: Mapping[str, int], data: bool, files: bool) -> list[Manifest]:
    """The variables of every service, as the port defines them."""
    variables: list[Manifest] = [
        {"name": "HOST", "value": "0.0.0.0"},  # noqa: S104 - each pod has its own address
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "RUNTIME_DIR", "value": SCRATCH_DIR},
    ]
    if "http" in numbers:
        variables.append({"name": "PORT", "value": str(numbers["http"])})
    variables += [{"name": variable(name), "value": str(numbers[name])} for name in numbers]
    if data:
        variables.append({"name": "DATA_DIR", "value": DATA_DIR})
    if files:
        variables.append({"name": "FILES_DIR", "value": FILES_DIR})
    return variables


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
    """A container. Only its scratch folder and its volumes are writable."""
    manifest: Manifest = {
        "name": name,
        "image": image,
        "command": list(command),
        "securityContext": _RESTRICTED_CONTAINER,
        "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH_DIR}, *mounts],
        # If the container fails without a message, the status has the last lines of its log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    # Empty lists are left out. The API server drops them, and a tool that compares the object with
    # a file would report a difference at each comparison.
    if env:
        manifest["env"] = list(env)
    if resources:
        manifest["resources"] = resources
    if numbers:
        manifest["ports"] = [
            {"name": port, "containerPort": number} for port, number in numbers.items()
        ]
    return manifest


def resources(
    spec: Resources, *, memory: str = "256Mi", memory_limit: str = "2Gi", cpu: str = "100m"
) -> Manifest:
    """Requests and limits. `spec.memory` is both the request and the limit.

    The keywords are the defaults. CPU has no limit, which would only throttle the program.
    """
    cpu_request = cpu if spec.cpu is None else f"{round(spec.cpu * 1000)}m"
    memory_request = memory if spec.memory is None else str(spec.memory)
    limits = {"memory": memory_limit if spec.memory is None else memory_request}
    if spec.gpu:
        limits["nvidia.com/gpu"] = str(spec.gpu)
    return {"requests": {"cpu": cpu_request, "memory": memory_request}, "limits": limits}


def probes(health: Health, numbers: Mapping[str, int]) -> Manifest:
    """Startup, readiness and liveness probes.

    A pod without an answer is not ready and gets no requests. It is restarted only if its port
    accepts no connection for a minute, so that a busy model server is not restarted.
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


def init_container(
    name: str, image: Any, command: Sequence[Any], *, secret: str | None = None
) -> Manifest:
    """A small init container. Its variables are the content of the Secret named `secret`."""
    limits = resources(Resources(), memory="64Mi", memory_limit="256Mi")
    manifest = container(name, image, command, [], resources=limits)
    if secret is None:
        return manifest
    return {**manifest, "envFrom": [{"secretRef": {"name": secret}}]}


def wait_for_addresses(addresses: Sequence[str]) -> list[str]:
    """A command that ends once each of the addresses (`host:port`) accepts connections."""
    return ["python", "-c", _WAIT_SCRIPT, *addresses]


def pod(
    containers: Sequence[Manifest],
    *,
    init_containers: Sequence[Manifest] = (),
    volumes: Sequence[Manifest] = (),
    service_account: str | None = None,
    placement: Mapping[str, Any] | None = None,
    stop_seconds: float | None = None,
) -> Manifest:
    """The spec of a pod. Only a pod with `service_account` gets an API token."""
    manifest: Manifest = {
        "automountServiceAccountToken": service_account is not None,
        "enableServiceLinks": False,
        "securityContext": _RESTRICTED_POD,
        "containers": list(containers),
        "volumes": [{"name": "scratch", "emptyDir": {}}, *volumes],
        **(placement or {}),
    }
    if init_containers:
        manifest["initContainers"] = list(init_containers)
    if service_account is not None:
        manifest["serviceAccountName"] = service_account
    if stop_seconds is not None:
        manifest["terminationGracePeriodSeconds"] = round(stop_seconds) + _DRAIN_SECONDS
    return manifest


def with_pre_stop(container: Manifest, hook: Manifest | None = None) -> Manifest:
    """`container` with a hook that delays its stop, since requests still arrive for a while.

    Default: a hook that sleeps.
    """
    pre_stop = hook or {"sleep": {"seconds": _DRAIN_SECONDS}}
    return {**container, "lifecycle": {"preStop": pre_stop}}


def template(
    all_labels: Mapping[str, str],
    spec: Manifest,
    version: Any = None,
    extra_labels: Mapping[str, str] | None = None,
) -> Manifest:
    """The template of pods. A changed `version`, such as a Secret's digest, replaces the pods."""
    metadata: Manifest = {"labels": {**all_labels, **(extra_labels or {})}}
    if version is not None:
        metadata["annotations"] = {"mlops/content": version}
    return {"metadata": metadata, "spec": spec}
