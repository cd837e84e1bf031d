"""The state of workloads, and the spec of a new run of a job."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ....plugin.errors import ResourceError
from .pods import Manifest


def is_complete(workload: Manifest, min_replicas: float | None = None) -> bool:
    """Whether all pods have the newest template and are ready, as in `kubectl rollout status`.

    `min_replicas` is set if an autoscaler sets the number of replicas. Then this number of ready
    pods is enough if no pod has an older template.
    """
    status, spec = workload.get("status", {}), workload["spec"]
    if status.get("observedGeneration", 0) < workload["metadata"]["generation"]:
        return False
    replicas = spec.get("replicas", 1)
    updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    if workload["kind"] == "StatefulSet":
        revisions = status.get("currentRevision"), status.get("updateRevision")
        return bool(ready == replicas and revisions[0] == revisions[1])
    if min_replicas is not None:
        enough = status.get("availableReplicas", 0) >= min_replicas
        return bool(enough and updated == status.get("replicas", 0))
    return bool(
        updated == replicas == status.get("replicas", 0) == status.get("availableReplicas", 0)
    )


def job_end(job: Manifest) -> tuple[str, str] | None:
    """`Complete` or `Failed`, and the reason of the cluster; None while the job runs."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"]), str(condition.get("message", ""))
    return None


def job_outputs(name: str, pods: Iterable[Manifest]) -> dict[str, Any]:
    """The outputs of a job. Raises ResourceError if they are not a JSON object."""
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses", []):
            terminated = status.get("state", {}).get("terminated", {})
            text = terminated.get("message", "")
            # The message of an evicted pod is the end of its log.
            if terminated.get("exitCode") or not text.strip():
                continue
            try:
                outputs = json.loads(text)
            except ValueError:
                outputs = None
            if not isinstance(outputs, dict):
                raise ResourceError(
                    f"job {name} wrote outputs that are not a JSON object of at most 4096 bytes: "
                    "write only the values that the platform needs to the file that "
                    "MLOPS_OUTPUTS names"
                )
            return outputs
    return {}


def fresh_spec(spec: Manifest) -> Manifest:
    """The spec for a new run of an existing job, without the fields that the cluster added."""
    result = {key: value for key, value in spec.items() if key != "selector"}
    template = result["template"]
    labels = {
        key: value
        for key, value in template["metadata"].get("labels", {}).items()
        if not key.endswith(("controller-uid", "job-name"))
    }
    result["template"] = {**template, "metadata": {**template["metadata"], "labels": labels}}
    result["template"]["metadata"].pop("creationTimestamp", None)
    return result
