"""Why pods do not start: their states, last events and last log lines, in a few lines."""

from __future__ import annotations

import re
from typing import Any

from .client import ClusterApi
from .errors import RefusedError
from .pods import Manifest, is_ready

_LOG_LINES = 15
_EVENTS = 3
_FIXES = {
    "ErrImagePull": "push the image, or correct mlops:kubernetes.registry or images",
    "ImagePullBackOff": "push the image, or correct mlops:kubernetes.registry or images",
    "InvalidImageName": "correct mlops:kubernetes.registry or images",
    "CreateContainerConfigError": "a Secret or ConfigMap that it names is missing",
    "OOMKilled": "give it more memory",
}
_STORAGE = (
    "set mlops:kubernetes.storage_class to one of `kubectl get storageclass`, or make one of them "
    "the default. A claim's own class cannot change: `kubectl delete pvc` it, as it is empty, "
    "and `pulumi refresh`, before you update again"
)
_FIXES_BY_MESSAGE = [
    (r"unbound immediate PersistentVolumeClaims|no storage class is set", _STORAGE),
    (r"storageclass\S* \S+ not found", _STORAGE),
    (r"Insufficient \S+\.\S+/", "add a node with such a device and its plugin, or free one"),
    (r"Insufficient ", "add a node, or free some of it"),
    (r"untolerated taint", "add a node that takes any pod"),
    (r"exceeded quota", "raise the namespace's quota (`kubectl describe quota`), or use less"),
    (r"is being terminated", "wait until the namespace is gone, then update again"),
    (r"violates PodSecurity", "the namespace must allow the standard `restricted`"),
    (r"is forbidden", "a policy of the cluster is against it: ask who runs it"),
    (r"executable file not found", "the image is not the one of this environment: build it anew"),
]


def pods(api: ClusterApi, found: list[Manifest]) -> str:
    """What keeps these pods from being ready; empty when nothing is told yet."""
    return "\n".join(filter(None, (_pod(api, pod) for pod in found if not is_ready(pod))))


def owner(api: ClusterApi, kind: str, name: str) -> str:
    """The last warnings about an object that has made no pods, as for a quota that is used up."""
    return "\n".join(_with_fix(line) for line in _events(api, kind, name))


def logs(api: ClusterApi, found: list[Manifest]) -> str:
    """The last log lines of these pods."""
    return "\n".join(
        line
        for pod in found
        for line in (
            f"pod {pod['metadata']['name']}:",
            *_log(api, pod, pod["spec"]["containers"][0]["name"], False),
        )
    )


def short(found: list[Manifest]) -> str:
    """The state of the pods in a few words, for a line that shows progress."""
    told = []
    for pod in found:
        reason, _ = _reason(pod)
        told.append(f"{pod['metadata']['name']} {'ready' if is_ready(pod) else reason}")
    return ", ".join(told) or "no pod yet"


def reason(pod: Manifest) -> str:
    """In one line, what keeps a pod from being ready, and the fix where there is one."""
    word, message = _reason(pod)
    if word in _FIXES:
        return f"{word}: {_FIXES[word]}"
    return f"{word}: {' '.join(message.split())}" if message else word


def _pod(api: ClusterApi, pod: Manifest) -> str:
    name = pod["metadata"]["name"]
    reason, message = _reason(pod)
    what = f"{reason}: {message}" if message else reason
    fix = _FIXES.get(reason)
    lines = [f"pod {name}: {f'{what} - {fix}' if fix else _with_fix(what)}"]
    lines += [
        f"  {line}" for line in _events(api, "Pod", name) if message not in line or not message
    ]
    for volume in pod.get("spec", {}).get("volumes", []):
        if claim := volume.get("persistentVolumeClaim"):
            lines += _claim(api, claim["claimName"])
    for status in pod.get("status", {}).get("containerStatuses", []):
        if not status.get("ready"):
            lines += _log(api, pod, status["name"], bool(status.get("restartCount")))
    return "\n".join(lines)


def _log(api: ClusterApi, pod: Manifest, container: str, previous: bool) -> list[str]:
    name = pod["metadata"]["name"]
    log = api.log(name, container, _LOG_LINES)
    if not log.strip() and previous:
        log = api.log(name, container, _LOG_LINES, previous=True)
    if not log.strip():
        return []
    return [
        f"  its log (kubectl logs {name}) ends with:",
        *(f"    {line}" for line in log.strip().splitlines()),
    ]


def _claim(api: ClusterApi, name: str) -> list[str]:
    """Why a volume is not there yet."""
    try:
        found = api.get("PersistentVolumeClaim", name)
    except RefusedError:
        return []
    if found is None:
        return [f"  volume {name} is gone: `pulumi refresh`, then update again"]
    phase = found.get("status", {}).get("phase", "Pending")
    if phase == "Bound":
        return []
    told = [
        _with_fix(line) for line in _events(api, "PersistentVolumeClaim", name, all_of_them=True)
    ]
    return [f"  volume {name}: {phase.lower()}", *(f"    {line}" for line in told)]


def _with_fix(line: str) -> str:
    fix = next((fix for told, fix in _FIXES_BY_MESSAGE if re.search(told, line)), None)
    return f"{line} - {fix}" if fix else line


def _reason(pod: Manifest) -> tuple[str, str]:
    """In a word what keeps a pod from being ready, and the cluster's own text for it."""
    status = pod.get("status", {})
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    if found := next(filter(None, map(_container_reason, containers)), None):
        return found
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
            return _ended(last)
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return waiting["reason"], waiting.get("message", "")
    if (ended := state.get("terminated")) and ended.get("exitCode"):
        return _ended(ended)
    return None


def _ended(state: dict[str, Any]) -> tuple[str, str]:
    reason = state.get("reason") or "Error"
    if reason in ("StartError", "ContainerCannotRun"):  # there was no program that left a log
        return reason, state.get("message", "")
    return (reason if reason == "OOMKilled" else f"exit code {state.get('exitCode')}"), ""


def _events(api: ClusterApi, kind: str, name: str, all_of_them: bool = False) -> list[str]:
    """The last warnings about an object, the newest first, each once."""
    try:
        found = api.every("Event", fields=f"involvedObject.kind={kind},involvedObject.name={name}")
    except RefusedError:  # who may change workloads may not always read events
        return []
    warnings = [each for each in found if all_of_them or each.get("type") == "Warning"]
    warnings.sort(
        key=lambda each: each.get("lastTimestamp") or each.get("eventTime") or "", reverse=True
    )
    told: list[str] = []
    for each in warnings:
        line = f"{each.get('reason')}: {' '.join((each.get('message') or '').split())}"
        if line not in told:
            told.append(line)
    return told[:_EVENTS]
