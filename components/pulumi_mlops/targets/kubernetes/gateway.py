"""Routes behind an existing Gateway: an HTTPRoute with the weights of the backend Services.

Source: Gateway API, standard channel (gateway-api.sigs.k8s.io).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from ..port import RouteSpec
from . import manifests, names
from .cluster import Cluster
from .settings import GatewaySettings

_GROUP = "gateway.networking.k8s.io"
_REQUEST_SECONDS = 300
"""Time limit of a response, as with the proxies. The default of many gateways is much shorter."""


def http_route(
    cluster: Cluster,
    gateway: GatewaySettings,
    name: str,
    spec: RouteSpec,
    *,
    table: Mapping[str, Any],
    pod_labels: Mapping[str, Mapping[str, str]],
    after_services: pulumi.ResourceOptions,
    opts: pulumi.ResourceOptions,
) -> tuple[pulumi.CustomResource, str]:
    """Create the HTTPRoute. Returns it and its URL.

    The HTTPRoute changes once the services are ready and the Gateway may connect to their pods. The
    policies of a removed backend are deleted after that.
    """
    if spec.port is not None:
        raise pulumi.RunError(
            f"{name}: port {spec.port} is not supported behind a Gateway, which has its own port: "
            "remove `port`, or remove mlops:kubernetes.gateway"
        )
    host = names.label(spec.endpoint)
    for hostname in (gateway.hostname(host), *spec.hosts):
        cluster.refuse_namesake("hostname", hostname)
    labels = cluster.labels(name, "route")
    policies = [
        cluster.make(
            "NetworkPolicy", f"{name}-{key}-policy", opts, labels=labels,
            object_name=f"{names.label(backend['service'], 55)}-gateway",
            spec=manifests.allow_ingress(
                pod_labels[key],
                [gateway.namespace, *cluster.settings.allow_from],
                backend["port"],
            ),
        )
        for key, backend in table.items()
    ]  # fmt: skip
    native = cluster.make(
        "HTTPRoute", name,
        pulumi.ResourceOptions.merge(after_services, pulumi.ResourceOptions(depends_on=policies)),
        labels=labels,
        spec=http_route_spec(gateway, [gateway.hostname(host), *spec.hosts], table),
    )  # fmt: skip
    return native, gateway.endpoint_url(host)


def http_route_spec(
    gateway: GatewaySettings, hostnames: Sequence[str], table: Mapping[str, Any]
) -> manifests.Manifest:
    """The spec of an HTTPRoute, with the defaults that the API server would add."""
    parent = {
        "group": _GROUP,
        "kind": "Gateway",
        "namespace": gateway.namespace,
        "name": gateway.name,
    }
    if gateway.section_name is not None:
        parent["sectionName"] = gateway.section_name
    backends = [
        {
            "group": "",
            "kind": "Service",
            "name": backend["service"],
            "port": backend["port"],
            "weight": backend["weight"],
        }
        for backend in table.values()
    ]
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "timeouts": {"request": f"{_REQUEST_SECONDS}s"},
        "backendRefs": backends,
    }
    return {"parentRefs": [parent], "hostnames": list(hostnames), "rules": [rule]}
