"""What the state of a workload means, and how a job is made anew."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ....plugin.errors import ResourceError
from .pods import Manifest


def is_complete(workload: Manifest, least: float | None = None) -> bool:
    """Whether all pods are of the newest template, and ready (kubectl's `rollout status`).

    With `least` an autoscaler decides how many there are: so many of the newest template are enough
    once no older one is left, and what it has just added need not be ready yet.
    """
    status, spec = workload.get("status", {}), workload["spec"]
    if status.get("observedGeneration", 0) < workload["metadata"]["generation"]:
        return False
    wanted = spec.get("replicas", 1)
    updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    if workload["kind"] == "StatefulSet":
        revisions = status.get("currentRevision"), status.get("updateRevision")
        return bool(ready == wanted and revisions[0] == revisions[1])
    if least is not None:
        enough = status.get("availableReplicas", 0) >= least
        return bool(enough and updated == status.get("replicas", 0))
    return bool(
        updated == wanted == status.get("replicas", 0) == status.get("availableReplicas", 0)
    )


def job_end(job: Manifest) -> tuple[str, str] | None:
    """`Complete` or `Failed`, and the cluster's reason; None while it goes on."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"]), str(condition.get("message", ""))
    return None


def job_outputs(name: str, pods: Iterable[Manifest]) -> dict[str, Any]:
    """What a job's pods left as outputs. Raises ResourceError for what is no JSON object."""
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses", []):
            ended = status.get("state", {}).get("terminated", {})
            text = ended.get("message", "")
            # One that the cluster took away has the end of its log for a message.
            if ended.get("exitCode") or not text.strip():
                continue
            try:
                left = json.loads(text)
            except ValueError:
                left = None
            if not isinstance(left, dict):
                raise ResourceError(
                    f"job {name} left outputs that are no JSON object, or more than "
                    "4096 bytes of it: write only what the platform has to know to the file "
                    "that MLOPS_OUTPUTS names"
                )
            return left
    return {}


def fresh_spec(spec: Manifest) -> Manifest:
    """The spec of a job that was made, for another one: without what the cluster added."""
    found = {key: value for key, value in spec.items() if key != "selector"}
    template = found["template"]
    kept = {
        key: value
        for key, value in template["metadata"].get("labels", {}).items()
        if not key.endswith(("controller-uid", "job-name"))
    }
    found["template"] = {**template, "metadata": {**template["metadata"], "labels": kept}}
    found["template"]["metadata"].pop("creationTimestamp", None)
    return found
