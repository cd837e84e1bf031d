"""Services: the pods of one, how many there are, what they keep, and what a namespace may take."""

from __future__ import annotations

from collections.abc import Mapping

from .metadata import Manifest, selector

_BUSY_PERCENT = 70
"""Of the cores that a pod asks for: what an autoscaler aims at. The rest lasts while pods start."""


def deployment(
    all_labels: Mapping[str, str],
    replicas: int | None,
    template: Manifest,
    deadline: float,
    *,
    several: bool,
) -> Manifest:
    """A Deployment's spec: the new pods are ready before an old one goes. Where there may be
    `several` they are spread over the nodes; no number of `replicas` is somebody else's choice."""
    chosen = selector(all_labels)
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": chosen},
    }
    pod_spec = template["spec"]
    if several:
        pod_spec = {**pod_spec, "topologySpreadConstraints": [spread]}
    return {
        **({} if replicas is None else {"replicas": replicas}),
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": round(deadline) + 60,
        "selector": {"matchLabels": chosen},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "template": {**template, "spec": pod_spec},
    }


def stateful_set(all_labels: Mapping[str, str], service: str, template: Manifest) -> Manifest:
    """A StatefulSet's spec: one pod at most has the volume."""
    return {
        "replicas": 1,
        "revisionHistoryLimit": 2,
        "serviceName": service,
        # Else one that has never become ready is not replaced by one that could (kubernetes.io,
        # "StatefulSets", Forced rollback).
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": selector(all_labels)},
        "template": template,
    }


def service(
    all_labels: Mapping[str, str], numbers: Mapping[str, int], headless: bool = False
) -> Manifest:
    """A Service's spec. A headless one stands for each of its pods by DNS."""
    found: Manifest = {
        "selector": selector(all_labels),
        "ports": [
            {"name": name, "port": number, "targetPort": name} for name, number in numbers.items()
        ],
    }
    if headless:
        found["clusterIP"] = "None"
    return found


def autoscaler(deployment: str, least: int, most: int) -> Manifest:
    """A HorizontalPodAutoscaler's spec: more pods at once when they are busy, fewer when they have
    not been for a while (kubernetes.io, "Horizontal Pod Autoscaling")."""
    busy = {"type": "Utilization", "averageUtilization": _BUSY_PERCENT}
    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": busy}}],
        "behavior": {
            "scaleDown": {
                "stabilizationWindowSeconds": 300,
                "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
            }
        },
    }


def disruption_budget(all_labels: Mapping[str, str]) -> Manifest:
    """A PodDisruptionBudget's spec: one pod at a time."""
    return {"maxUnavailable": 1, "selector": {"matchLabels": selector(all_labels)}}


def limit_range() -> Manifest:
    """A LimitRange's spec: what a container of somebody else's gets that asks for nothing, since a
    quota refuses it otherwise."""
    return {
        "limits": [
            {
                "type": "Container",
                "defaultRequest": {"cpu": "100m", "memory": "256Mi"},
                "default": {"memory": "1Gi"},
            }
        ]
    }


def claim(size: str, storage_class: str | None) -> Manifest:
    """A PersistentVolumeClaim's spec."""
    found: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    if storage_class is not None:
        found["storageClassName"] = storage_class
    return found
