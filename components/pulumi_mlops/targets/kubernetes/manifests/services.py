"""Services: workloads, autoscalers, disruption budgets, volume claims and limit ranges."""

from __future__ import annotations

from collections.abc import Mapping

from .metadata import Manifest, selector

_BUSY_PERCENT = 70
"""Target of an autoscaler in percent of the requested CPU. The rest is for starting pods."""


def deployment(
    all_labels: Mapping[str, str],
    replicas: int | None,
    template: Manifest,
    deadline: float,
    *,
    replicated: bool,
) -> Manifest:
    """The spec of a Deployment. New pods are ready before old ones stop.

    `replicated` spreads the pods over the nodes. If `replicas` is None, an autoscaler sets it.
    """
    match_labels = selector(all_labels)
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": match_labels},
    }
    pod_spec = template["spec"]
    if replicated:
        pod_spec = {**pod_spec, "topologySpreadConstraints": [spread]}
    return {
        **({} if replicas is None else {"replicas": replicas}),
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": round(deadline) + 60,
        "selector": {"matchLabels": match_labels},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "template": {**template, "spec": pod_spec},
    }


def stateful_set(all_labels: Mapping[str, str], service: str, template: Manifest) -> Manifest:
    """The spec of a StatefulSet with one pod, since only one may use the volume."""
    return {
        "replicas": 1,
        "revisionHistoryLimit": 2,
        "serviceName": service,
        # With the default policy a pod that never became ready is not replaced by a newer one
        # (kubernetes.io, "StatefulSets", Forced rollback).
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": selector(all_labels)},
        "template": template,
    }


def service(
    all_labels: Mapping[str, str], numbers: Mapping[str, int], headless: bool = False
) -> Manifest:
    """The spec of a Service. The DNS name of a headless one resolves to each of its pods."""
    manifest: Manifest = {
        "selector": selector(all_labels),
        "ports": [
            {"name": name, "port": number, "targetPort": name} for name, number in numbers.items()
        ],
    }
    if headless:
        manifest["clusterIP"] = "None"
    return manifest


def autoscaler(deployment: str, min_replicas: int, max_replicas: int) -> Manifest:
    """The spec of a HorizontalPodAutoscaler that adds pods at once and removes them slowly
    (kubernetes.io, "Horizontal Pod Autoscaling")."""
    target = {"type": "Utilization", "averageUtilization": _BUSY_PERCENT}
    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment},
        "minReplicas": min_replicas,
        "maxReplicas": max_replicas,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        "behavior": {
            "scaleDown": {
                "stabilizationWindowSeconds": 300,
                "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
            }
        },
    }


def disruption_budget(all_labels: Mapping[str, str]) -> Manifest:
    """The spec of a PodDisruptionBudget that evicts one pod at a time."""
    return {"maxUnavailable": 1, "selector": {"matchLabels": selector(all_labels)}}


def limit_range() -> Manifest:
    """The spec of a LimitRange: defaults for containers without requests, such as those that other
    tools inject. A quota refuses such containers."""
    return {
        "limits": [
            {
                "type": "Container",
                "defaultRequest": {"cpu": "100m", "memory": "256Mi"},
                "default": {"memory": "1Gi"},
            }
        ]
    }


def volume_claim(size: str, storage_class: str | None) -> Manifest:
    """The spec of a PersistentVolumeClaim."""
    manifest: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    if storage_class is not None:
        manifest["storageClassName"] = storage_class
    return manifest
