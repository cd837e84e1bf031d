"""Whether a Gateway has taken an HTTPRoute, and why not, by what their status says.

Source: Gateway API, RouteStatus and GatewayStatus (gateway-api.sigs.k8s.io).
"""

from __future__ import annotations

from collections.abc import Callable

from .client import ClusterApi
from .errors import RefusedError
from .pods import Manifest

_FORBIDDEN = 403  # of HTTP
_TAKEN = ("Accepted", "ResolvedRefs")
_FIXES = {
    "NotAllowedByListeners": "no listener of it lets in routes of this namespace: its owner sets "
    "`allowedRoutes.namespaces`",
    "NoMatchingListenerHostname": "no listener of it takes this host name: correct "
    "mlops:kubernetes.gateway.url, or have a listener made",
    "NoMatchingParent": "it has no such listener: correct mlops:kubernetes.gateway.section_name",
    "BackendNotFound": "somebody deleted a Service: `pulumi refresh`, then update again",
}
_NAME_ANOTHER = "correct mlops:kubernetes.gateway; `kubectl get gateways -A` lists what there is"


def refusals(route: Manifest) -> list[str] | None:
    """Why its Gateway has not taken its newest generation, which is nothing once it has; None as
    long as no controller has looked at it."""
    told = []
    for parent in route["spec"]["parentRefs"]:
        conditions = _conditions(route, parent)
        if not conditions.keys() >= set(_TAKEN):
            return None
        told += [_told(conditions[kind]) for kind in _TAKEN if not _holds(conditions[kind])]
    return told


def unserved(at: Callable[[str], ClusterApi], route: Manifest) -> tuple[bool, str]:
    """Whether waiting is of no use for a route that no controller has looked at, and what its
    Gateway tells. `at` gives the API of a namespace."""
    namespace, name, _ = _place(route["spec"]["parentRefs"][0], route)
    what = f"Gateway {name} in namespace {namespace}"
    try:
        found = at(namespace).get("Gateway", name)
    except RefusedError as error:  # it is somebody else's
        if error.status != _FORBIDDEN:
            raise
        return False, f"no controller has looked at it: ask who runs {what}"
    if found is None:
        return True, f"there is no {what}: {_NAME_ANOTHER}"
    conditions = found.get("status", {}).get("conditions", [])
    wrong = [_told(each) for each in conditions if each["type"] in ("Accepted", "Programmed")
             and not _holds(each)]  # fmt: skip
    why = "; ".join(wrong) or "nothing wrong is told of it"
    return False, f"no controller has looked at it; {what}: {why}"


def _conditions(route: Manifest, parent: Manifest) -> dict[str, Manifest]:
    """What is told of the newest generation, by the condition's type."""
    return {
        condition["type"]: condition
        for each in route.get("status", {}).get("parents", [])
        if _place(each["parentRef"], route) == _place(parent, route)
        for condition in each.get("conditions", [])
        if condition.get("observedGeneration", 0) >= route["metadata"]["generation"]
    }


def _place(parent: Manifest, route: Manifest) -> tuple[str, str, str | None]:
    namespace = parent.get("namespace") or route["metadata"]["namespace"]
    return namespace, parent["name"], parent.get("sectionName")


def _holds(condition: Manifest) -> bool:
    return bool(condition["status"] == "True")


def _told(condition: Manifest) -> str:
    reason = condition.get("reason", "")
    message = " ".join((condition.get("message") or "").split())
    line = ": ".join(filter(None, (f"not {condition['type']}", reason, message)))
    return f"{line} - {_FIXES[reason]}" if reason in _FIXES else line
