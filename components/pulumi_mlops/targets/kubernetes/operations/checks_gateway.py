"""The check of the Gateway that routes requests to endpoints."""

from __future__ import annotations

from ....cli.checks import Finding, ok, wrong
from ....cli.selection import Stack
from ..api.client import ClusterApi
from ..api.errors import RefusedError
from ..api.pods import Manifest

_GATEWAYS = "apis/gateway.networking.k8s.io/v1/gateways"


def gateway(api: ClusterApi, stack: Stack) -> list[Finding]:
    """Whether the configured Gateway exists. Without one, the Gateways of the cluster."""
    configured = stack.settings.get("gateway")
    try:
        gateways: list[Manifest] = api.request("GET", _GATEWAYS).json().get("items") or []
    except RefusedError as error:
        if not configured:
            return []
        if error.status == 404:
            fix = "ask the administrator to install it, or remove mlops:kubernetes.gateway"
            return [wrong("gateway", "the cluster has no Gateway API", fix)]
        return [ok("gateway", "this user may not list Gateways")]
    names = [f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in gateways]
    existing = ", ".join(names) or "none"
    if not configured:
        hint = "set mlops:kubernetes.gateway to use one for endpoints"
        return (
            [ok("gateway", f"not configured; the cluster has {existing}: {hint}")] if names else []
        )
    gateway_name = f"{configured.get('namespace')}/{configured.get('name')}"
    if gateway_name in names:
        return [ok("gateway", gateway_name)]
    fix = "correct mlops:kubernetes.gateway"
    return [
        wrong("gateway", f"there is no Gateway {gateway_name}: the cluster has {existing}", fix)
    ]
