"""Facts in the manifest of a pod."""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]


def port_of_pod(service: Manifest, port: int, pod: Manifest) -> int:
    """The container port behind a port of a Service, which kr8s needs for a tunnel."""
    targets = [
        each.get("targetPort", port) for each in service["spec"]["ports"] if each["port"] == port
    ]
    target = targets[0] if targets else port
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for each in container.get("ports", []):
            if each.get("name") == target:
                return int(each["containerPort"])
    return port


def is_ready(pod: Manifest) -> bool:
    """Whether a pod receives requests: it is ready and not terminating."""
    conditions = pod.get("status", {}).get("conditions", [])
    return "deletionTimestamp" not in pod["metadata"] and any(
        each["type"] == "Ready" and each["status"] == "True" for each in conditions
    )


def container_statuses(pod: Manifest) -> list[Manifest]:
    """The statuses of the init containers that have not completed, and of the containers."""
    status = pod.get("status", {})
    # The kubelet reports an init container as ready once it has completed.
    init = [each for each in status.get("initContainerStatuses", []) if not each.get("ready")]
    return [*init, *status.get("containerStatuses", [])]


def readiness_address(pod: Manifest) -> tuple[int, str] | None:
    """Port and path of the HTTP readiness probe of the first container; None without one."""
    check = pod["spec"]["containers"][0].get("readinessProbe", {}).get("httpGet")
    if check is None or not isinstance(check["port"], int):
        return None
    return check["port"], str(check.get("path", "/"))
