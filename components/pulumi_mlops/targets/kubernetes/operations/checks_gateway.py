"""The check of the Gateway that endpoints go through, or could."""

from __future__ import annotations

from ....cli.checks import Check, ok, wrong
from ....cli.selection import Stack
from ..api.client import ClusterApi
from ..api.errors import RefusedError
from ..api.pods import Manifest

_GATEWAYS = "apis/gateway.networking.k8s.io/v1/gateways"


def gateway(api: ClusterApi, stack: Stack) -> list[Check]:
    """Whether the Gateway is there that the stack names; which there are, where it names none."""
    asked = stack.settings.get("gateway")
    try:
        found: list[Manifest] = api.ask("GET", _GATEWAYS).json().get("items") or []
    except RefusedError as error:
        if not asked:
            return []
        if error.status == 404:
            fix = "ask who runs the cluster for it, or leave mlops:kubernetes.gateway out"
            return [wrong("gateway", "the cluster has no Gateway API", fix)]
        return [ok("gateway", "which Gateways there are is not told to this user")]
    names = [f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in found]
    there = ", ".join(names) or "none"
    if not asked:
        how = "mlops:kubernetes.gateway has endpoints go through one"
        return [ok("gateway", f"none is named; there is {there}: {how}")] if names else []
    wanted = f"{asked.get('namespace')}/{asked.get('name')}"
    if wanted in names:
        return [ok("gateway", wanted)]
    fix = "correct mlops:kubernetes.gateway"
    return [wrong("gateway", f"there is no Gateway {wanted}: there is {there}", fix)]
