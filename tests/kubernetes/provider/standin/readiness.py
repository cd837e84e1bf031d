"""What the API server says of an object, read as ready, not yet, or never."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .wire import Object

Live = Mapping[str, Any]


@dataclass(frozen=True)
class Readiness:
    """Where an object is on its way."""

    ready: bool
    says: str = ""
    """What is awaited, or why it failed."""
    failed: bool = False
    """It will not become ready any more."""


READY: Final = Readiness(True)


def waits(says: str) -> Readiness:
    """Not ready yet."""
    return Readiness(False, says)


def condition(live: Live, kind: str) -> Object:
    """The status condition of this type, or nothing."""
    for each in (live.get("status") or {}).get("conditions") or []:
        if each.get("type") == kind:
            return dict(each)
    return {}


def said(found: Live) -> str:
    """A condition in words."""
    reason, message = found.get("reason"), found.get("message")
    return ": ".join(str(part) for part in (reason, message) if part)


def deployment(live: Live) -> Readiness:
    """Ready when the rollout is complete: every replica is of the newest template and available."""
    if not _observed(live):
        return waits("the controller to see the change")
    spec, status = live.get("spec") or {}, live.get("status") or {}
    wanted = spec.get("replicas", 1)
    if (updated := status.get("updatedReplicas", 0)) < wanted:
        return waits(_with(live, f"{updated} of {wanted} replicas updated"))
    if (old := status.get("replicas", 0) - updated) > 0:
        return waits(_with(live, f"{old} old replicas to end"))
    if (available := status.get("availableReplicas", 0)) < wanted:
        return waits(_with(live, f"{available} of {wanted} replicas available"))
    return READY


def stateful_set(live: Live) -> Readiness:
    """Ready when every replica is of the newest revision and ready."""
    if not _observed(live):
        return waits("the controller to see the change")
    spec, status = live.get("spec") or {}, live.get("status") or {}
    wanted = spec.get("replicas", 1)
    if (ready := status.get("readyReplicas", 0)) < wanted:
        return waits(f"{ready} of {wanted} replicas ready")
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return READY
    partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
    if (updated := status.get("updatedReplicas", 0)) < wanted - partition:
        return waits(f"{updated} of {wanted - partition} replicas updated")
    if not partition and status.get("currentRevision") != status.get("updateRevision"):
        return waits("the newest revision to be the current one")
    return READY


def daemon_set(live: Live) -> Readiness:
    """Ready when every node that should run it does, in the newest revision."""
    if not _observed(live):
        return waits("the controller to see the change")
    status = live.get("status") or {}
    wanted = status.get("desiredNumberScheduled", 0)
    strategy = ((live.get("spec") or {}).get("updateStrategy") or {}).get("type")
    if strategy != "OnDelete" and (new := status.get("updatedNumberScheduled", 0)) < wanted:
        return waits(f"{new} of {wanted} nodes updated")
    if (available := status.get("numberAvailable", 0)) < wanted:
        return waits(f"{available} of {wanted} nodes available")
    return READY


def job(live: Live) -> Readiness:
    """Ready when it has completed; it may also have failed for good."""
    if (failed := condition(live, "Failed")).get("status") == "True":
        return Readiness(False, f"the Job failed: {said(failed)}", failed=True)
    if condition(live, "Complete").get("status") == "True":
        return READY
    status, spec = live.get("status") or {}, live.get("spec") or {}
    if spec.get("suspend"):
        # Somebody else is to start it; it would never complete while we wait.
        return READY
    done, wanted = status.get("succeeded", 0), spec.get("completions") or 1
    tried = f", {status['failed']} failed" if status.get("failed") else ""
    return waits(f"{done} of {wanted} pods succeeded{tried}")


def pod(live: Live) -> Readiness:
    """Ready when its readiness checks pass, or when it has done its work."""
    status = live.get("status") or {}
    phase = status.get("phase")
    if phase == "Succeeded" or condition(live, "Ready").get("status") == "True":
        return READY
    if phase == "Failed":
        return Readiness(False, f"the pod failed: {said(status)}", failed=True)
    troubles = "; ".join(container_troubles(live))
    return waits(f"phase {phase}{f': {troubles}' if troubles else ''}")


def claim(live: Live) -> Readiness:
    """Ready when bound; `binds_later` is asked before."""
    phase = (live.get("status") or {}).get("phase")
    return READY if phase == "Bound" else waits(f"the claim is {phase}")


def namespace(live: Live) -> Readiness:
    """Ready when active."""
    phase = (live.get("status") or {}).get("phase")
    return READY if phase == "Active" else waits(f"the namespace is {phase}")


def definition(live: Live) -> Readiness:
    """A CustomResourceDefinition: ready when its objects can be made."""
    if condition(live, "Established").get("status") == "True":
        return READY
    names = condition(live, "NamesAccepted")
    return waits(said(names) if names.get("status") == "False" else "the definition to be served")


READINESS: Final[Mapping[tuple[str, str], Callable[[Live], Readiness]]] = {
    ("apps/v1", "Deployment"): deployment,
    ("apps/v1", "StatefulSet"): stateful_set,
    ("apps/v1", "DaemonSet"): daemon_set,
    ("batch/v1", "Job"): job,
    ("v1", "Pod"): pod,
    ("v1", "PersistentVolumeClaim"): claim,
    ("v1", "Namespace"): namespace,
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): definition,
}


def container_troubles(live: Live) -> list[str]:
    """Why containers of a pod do not run: image that cannot be pulled, crash, missing config."""
    status = live.get("status") or {}
    found = []
    for key in ("initContainerStatuses", "containerStatuses"):
        for each in status.get(key) or []:
            state = each.get("state") or {}
            waiting = state.get("waiting") or {}
            if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
                found.append(f"container {each.get('name')}: {said(waiting)}")
            ended = state.get("terminated") or (each.get("lastState") or {}).get("terminated") or {}
            if ended.get("exitCode"):
                found.append(
                    f"container {each.get('name')} ended with exit code {ended['exitCode']}"
                    f" ({said(ended)})"
                )
    scheduled = condition(live, "PodScheduled")
    if scheduled.get("status") == "False":
        found.append(said(scheduled))
    return found


def _observed(live: Live) -> bool:
    generation = (live.get("metadata") or {}).get("generation", 0)
    return bool((live.get("status") or {}).get("observedGeneration", 0) >= generation)


def _with(live: Live, says: str) -> str:
    # Of a rollout that does not progress, the controller says why.
    for kind, bad in (("ReplicaFailure", "True"), ("Progressing", "False")):
        found = condition(live, kind)
        if found.get("status") == bad:
            says += f" ({said(found)})"
    return says
