"""A route as an HTTPRoute of a Gateway that is there already: weights over versions' Services.

Source: Gateway API, standard channel (gateway-api.sigs.k8s.io).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

from ..port import RouteSpec
from . import manifests, names
from .cluster import Cluster
from .settings import GatewaySettings

_GROUP = "gateway.networking.k8s.io"
_REQUEST_SECONDS = 300
"""How long an answer may take, as with the proxies of our own: many gateways end it far sooner."""


def make(
    cluster: Cluster,
    gateway: GatewaySettings,
    name: str,
    spec: RouteSpec,
    *,
    services: Mapping[str, Any],
    pods: Mapping[str, Mapping[str, str]],
    after: pulumi.ResourceOptions,
    opts: pulumi.ResourceOptions,
) -> tuple[pulumi.CustomResource, str]:
    """The HTTPRoute that the Gateway takes, and the URL that it answers at.

    It changes `after` its services are ready, and once the gateway may call their `pods` (the
    labels that choose them, as `services` by key). A version that goes is cut off after that.
    """
    if spec.port is not None:
        raise pulumi.RunError(
            f"{name}: the port {spec.port} cannot be had, since endpoints are behind a Gateway, "
            "which has its own: leave `port` out, or mlops:kubernetes.gateway"
        )
    host = names.label(spec.endpoint)
    cluster.refuse_namesake("hostname", gateway.hostname(host))
    labels = cluster.labels(name, "route")
    let_in = [
        cluster.make(
            "NetworkPolicy", f"{name}-{key}-policy", opts, labels=labels,
            object_name=f"{names.label(service['service'], 55)}-gateway",
            spec=manifests.let_in(
                pods[key], [gateway.namespace, *cluster.settings.allow_from], service["port"]
            ),
        )
        for key, service in services.items()
    ]  # fmt: skip
    native = cluster.make(
        "HTTPRoute", name,
        pulumi.ResourceOptions.merge(after, pulumi.ResourceOptions(depends_on=let_in)),
        labels=labels, spec=http_route(gateway, gateway.hostname(host), services),
    )  # fmt: skip
    return native, gateway.endpoint_url(host)


def http_route(
    gateway: GatewaySettings, hostname: str, services: Mapping[str, Any]
) -> manifests.Manifest:
    """An HTTPRoute's spec, with all that the API server would put in by itself."""
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
            "name": each["service"],
            "port": each["port"],
            "weight": each["weight"],
        }
        for each in services.values()
    ]
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "timeouts": {"request": f"{_REQUEST_SECONDS}s"},
        "backendRefs": backends,
    }
    return {"parentRefs": [parent], "hostnames": [hostname], "rules": [rule]}
