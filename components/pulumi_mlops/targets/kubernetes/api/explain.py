"""Explains why pods do not become ready, by their states, last events and log lines."""

from __future__ import annotations

import re
from typing import Any

from .client import ClusterApi
from .errors import RefusedError
from .pods import Manifest, container_statuses, is_ready

_LOG_LINES = 15
_EVENTS = 3
_FIXES = {
    "ErrImagePull": "push the image, or correct mlops:kubernetes.registry or images",
    "ImagePullBackOff": "push the image, or correct mlops:kubernetes.registry or images",
    "InvalidImageName": "correct mlops:kubernetes.registry or images",
    "CreateContainerConfigError": "a Secret or ConfigMap of the container is missing",
    "OOMKilled": "increase the memory limit",
}
_STORAGE = (
    "set mlops:kubernetes.storage_class to one of `kubectl get storageclass`, or make one of them "
    "the default. The class of an existing claim cannot change: delete the empty claim with "
    "`kubectl delete pvc` and run `pulumi refresh` before the next update"
)
_FIXES_BY_MESSAGE = [
    (r"unbound immediate PersistentVolumeClaims|no storage class is set", _STORAGE),
    (r"storageclass\S* \S+ not found", _STORAGE),
    (
        r"Insufficient \S+\.\S+/",
        "add a node with such a device and its plugin, or stop a pod that uses one",
    ),
    (r"Insufficient ", "add a node, or reduce the requests of pods"),
    (r"untolerated taint", "add a node without taints"),
    (
        r"exceeded quota",
        "raise the quota of the namespace (`kubectl describe quota`), or reduce requests",
    ),
    (r"is being terminated", "wait until the namespace is deleted, then update again"),
    (r"violates PodSecurity", "the namespace must allow pods of the level `restricted`"),
    (r"is forbidden", "a policy of the cluster forbids it: ask its administrator"),
    (
        r"executable file not found",
        "the image does not belong to this Python environment: rebuild it",
    ),
]


def pods(api: ClusterApi, all_pods: list[Manifest]) -> str:
    """Why these pods are not ready; empty if the cluster reports nothing yet."""
    return "\n".join(filter(None, (_pod(api, pod) for pod in all_pods if not is_ready(pod))))


def owner(api: ClusterApi, kind: str, name: str) -> str:
    """The last warnings about an object without pods, such as an exceeded quota."""
    return "\n".join(_with_fix(line) for line in _events(api, kind, name))


def logs(api: ClusterApi, all_pods: list[Manifest]) -> str:
    """The last log lines of these pods."""
    return "\n".join(
        line
        for pod in all_pods
        for line in (
            f"pod {pod['metadata']['name']}:",
            *_log(api, pod, pod["spec"]["containers"][0]["name"], False),
        )
    )


def summary(all_pods: list[Manifest]) -> str:
    """The state of the pods in a few words, for a line that shows progress."""
    lines = []
    for pod in all_pods:
        reason, _ = _reason(pod)
        lines.append(f"{pod['metadata']['name']} {'ready' if is_ready(pod) else reason}")
    return ", ".join(lines) or "no pod yet"


def reason(pod: Manifest) -> str:
    """One line: why a pod is not ready, and the fix if known."""
    word, message = _reason(pod)
    if word in _FIXES:
        return f"{word}: {_FIXES[word]}"
    return f"{word}: {' '.join(message.split())}" if message else word


def _pod(api: ClusterApi, pod: Manifest) -> str:
    name = pod["metadata"]["name"]
    reason, message = _reason(pod)
    problem = f"{reason}: {message}" if message else reason
    fix = _FIXES.get(reason)
    lines = [f"pod {name}: {f'{problem} - {fix}' if fix else _with_fix(problem)}"]
    lines += [
        f"  {line}" for line in _events(api, "Pod", name) if message not in line or not message
    ]
    for volume in pod.get("spec", {}).get("volumes", []):
        if claim := volume.get("persistentVolumeClaim"):
            lines += _claim(api, claim["claimName"])
    for status in container_statuses(pod):
        if not status.get("ready"):
            lines += _log(api, pod, status["name"], bool(status.get("restartCount")))
    return "\n".join(lines)


def _log(api: ClusterApi, pod: Manifest, container: str, previous: bool) -> list[str]:
    name = pod["metadata"]["name"]
    is_default = container == pod["spec"]["containers"][0]["name"]
    command = f"kubectl logs {name}" if is_default else f"kubectl logs {name} -c {container}"
    log = api.log(name, container, _LOG_LINES)
    if not log.strip() and previous:
        log = api.log(name, container, _LOG_LINES, previous=True)
    if not log.strip():
        return []
    return [
        f"  its log ({command}) ends with:",
        *(f"    {line}" for line in log.strip().splitlines()),
    ]


def _claim(api: ClusterApi, name: str) -> list[str]:
    """Why a volume is not bound."""
    try:
        claim = api.get("PersistentVolumeClaim", name)
    except RefusedError:
        return []
    if claim is None:
        return [f"  volume {name} was deleted: run `pulumi refresh`, then update again"]
    phase = claim.get("status", {}).get("phase", "Pending")
    if phase == "Bound":
        return []
    lines = [
        _with_fix(line) for line in _events(api, "PersistentVolumeClaim", name, all_types=True)
    ]
    return [f"  volume {name}: {phase.lower()}", *(f"    {line}" for line in lines)]


def _with_fix(line: str) -> str:
    fix = next((fix for pattern, fix in _FIXES_BY_MESSAGE if re.search(pattern, line)), None)
    return f"{line} - {fix}" if fix else line


def _reason(pod: Manifest) -> tuple[str, str]:
    """The reason why a pod is not ready as one word, and the message of the cluster."""
    status = pod.get("status", {})
    if problem := next(filter(None, map(_container_reason, container_statuses(pod))), None):
        return problem
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason", "Unschedulable"), condition.get("message", "")
    if status.get("reason"):
        return status["reason"], status.get("message", "")
    running = status.get("phase") == "Running"
    return "running, but not ready" if running else status.get("phase", "Pending").lower(), ""


def _container_reason(container: Manifest) -> tuple[str, str] | None:
    state: dict[str, Any] = container.get("state", {})
    if waiting := state.get("waiting"):
        last = container.get("lastState", {}).get("terminated")
        if last and waiting.get("reason") == "CrashLoopBackOff":
            return _exit_reason(last)
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return waiting["reason"], waiting.get("message", "")
    if (ended := state.get("terminated")) and ended.get("exitCode"):
        return _exit_reason(ended)
    return None


def _exit_reason(state: dict[str, Any]) -> tuple[str, str]:
    reason = state.get("reason") or "Error"
    if reason in ("StartError", "ContainerCannotRun"):  # no program started, so there is no log
        return reason, state.get("message", "")
    return (reason if reason == "OOMKilled" else f"exit code {state.get('exitCode')}"), ""


def _events(api: ClusterApi, kind: str, name: str, all_types: bool = False) -> list[str]:
    """The last distinct warnings about an object, newest first; all events with `all_types`."""
    try:
        events = api.list_objects(
            "Event", fields=f"involvedObject.kind={kind},involvedObject.name={name}"
        )
    except RefusedError:  # some roles may change workloads, but not read events
        return []
    warnings = [each for each in events if all_types or each.get("type") == "Warning"]
    warnings.sort(
        key=lambda each: each.get("lastTimestamp") or each.get("eventTime") or "", reverse=True
    )
    lines: list[str] = []
    for each in warnings:
        line = f"{each.get('reason')}: {' '.join((each.get('message') or '').split())}"
        if line not in lines:
            lines.append(line)
    return lines[:_EVENTS]
