"""Whether a Gateway has accepted an HTTPRoute, and why not, by the status of both.

Source: Gateway API, RouteStatus and GatewayStatus (gateway-api.sigs.k8s.io).
"""

from __future__ import annotations

from collections.abc import Callable

from .client import ClusterApi
from .errors import RefusedError
from .pods import Manifest

_FORBIDDEN = 403  # HTTP status
_REQUIRED_CONDITIONS = ("Accepted", "ResolvedRefs")
_FIXES = {
    "NotAllowedByListeners": "no listener allows routes of this namespace: ask its owner to set "
    "`allowedRoutes.namespaces`",
    "NoMatchingListenerHostname": "no listener accepts this host name: correct "
    "mlops:kubernetes.gateway.url, or add a listener",
    "NoMatchingParent": "the Gateway has no such listener: correct "
    "mlops:kubernetes.gateway.section_name",
    "BackendNotFound": "a Service was deleted: run `pulumi refresh`, then update again",
}
_FIX_NAME = "correct mlops:kubernetes.gateway; `kubectl get gateways -A` lists the existing ones"


def refusals(route: Manifest) -> list[str] | None:
    """Why the Gateway has not accepted the newest generation of a route.

    Empty if it has accepted it; None if no controller has processed it.
    """
    problems = []
    for parent in route["spec"]["parentRefs"]:
        conditions = _conditions(route, parent)
        if not conditions.keys() >= set(_REQUIRED_CONDITIONS):
            return None
        problems += [
            _describe(conditions[kind])
            for kind in _REQUIRED_CONDITIONS
            if not _is_true(conditions[kind])
        ]
    return problems


def unprocessed(at: Callable[[str], ClusterApi], route: Manifest) -> tuple[bool, str]:
    """Why no controller has processed a route.

    Returns whether the problem is permanent, and a message about its Gateway. `at` returns the API
    client for a namespace.
    """
    namespace, name, _ = _parent_key(route["spec"]["parentRefs"][0], route)
    gateway = f"Gateway {name} in namespace {namespace}"
    try:
        found = at(namespace).get("Gateway", name)
    except RefusedError as error:  # the Gateway belongs to another user
        if error.status != _FORBIDDEN:
            raise
        return False, f"no controller has processed it: ask the owner of {gateway}"
    if found is None:
        return True, f"there is no {gateway}: {_FIX_NAME}"
    conditions = found.get("status", {}).get("conditions", [])
    problems = [_describe(each) for each in conditions if each["type"] in ("Accepted", "Programmed")
             and not _is_true(each)]  # fmt: skip
    why = "; ".join(problems) or "its status reports no error"
    return False, f"no controller has processed it; {gateway}: {why}"


def _conditions(route: Manifest, parent: Manifest) -> dict[str, Manifest]:
    """The conditions of the newest generation of a route by type."""
    return {
        condition["type"]: condition
        for each in route.get("status", {}).get("parents", [])
        if _parent_key(each["parentRef"], route) == _parent_key(parent, route)
        for condition in each.get("conditions", [])
        if condition.get("observedGeneration", 0) >= route["metadata"]["generation"]
    }


def _parent_key(parent: Manifest, route: Manifest) -> tuple[str, str, str | None]:
    namespace = parent.get("namespace") or route["metadata"]["namespace"]
    return namespace, parent["name"], parent.get("sectionName")


def _is_true(condition: Manifest) -> bool:
    return bool(condition["status"] == "True")


def _describe(condition: Manifest) -> str:
    reason = condition.get("reason", "")
    message = " ".join((condition.get("message") or "").split())
    line = ": ".join(filter(None, (f"not {condition['type']}", reason, message)))
    return f"{line} - {_FIXES[reason]}" if reason in _FIXES else line
