"""NetworkPolicies that allow only the required connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .metadata import Manifest, selector


def peer_ingress(all_labels: Mapping[str, str]) -> list[Manifest]:
    """Ingress rules that let the pods of one workload call each other at any port."""
    return [{"from": [{"podSelector": {"matchLabels": selector(all_labels)}}]}]


def calls_label(name: str) -> str:
    """The label of pods that call the service `name`."""
    return f"calls.mlops/{name}"


WATCHER_LABELS = {"mlops/watches": "true"}
"""The labels of pods that call every service, as monitoring does."""


def deny_all() -> Manifest:
    """The spec of a NetworkPolicy that denies all traffic that no other policy allows."""
    return {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def network_policy(
    all_labels: Mapping[str, str],
    ingress: Sequence[Manifest],
    calls: Sequence[tuple[Mapping[str, str], Sequence[int]]],
    *,
    any_egress: bool = False,
) -> Manifest:
    """The spec of a NetworkPolicy for the pods of one workload.

    `calls` holds the labels and ports of the pods that they may call. DNS is always allowed.
    `any_egress` allows every destination.
    """
    egress: list[Manifest] = [{"ports": [_port(53, "UDP"), _port(53)]}]
    egress += [
        {
            "to": [{"podSelector": {"matchLabels": dict(labels)}}],
            "ports": [_port(number) for number in numbers],
        }
        for labels, numbers in calls
    ]
    if any_egress:
        egress.append({})
    return {
        "podSelector": {"matchLabels": selector(all_labels)},
        "policyTypes": ["Ingress", "Egress"],
        **({"ingress": list(ingress)} if ingress else {}),
        "egress": egress,
    }


def ingress_rules(
    name: str,
    numbers: Sequence[int],
    external: Sequence[str] | None,
    *,
    routed: bool = False,
) -> list[Manifest]:
    """Ingress rules of a service: pods that declare calls to it, pods that watch every service, and
    the proxies if it is `routed`.

    A public service has a list of `external` namespaces and address ranges. It accepts those and
    every pod of its namespace.
    """
    peers: list[Manifest] = [
        {"podSelector": {"matchLabels": {calls_label(name): "true"}}},
        {"podSelector": {"matchLabels": WATCHER_LABELS}},
    ]
    if routed:
        peers.append({"podSelector": {"matchLabels": {"app.kubernetes.io/component": "route"}}})
    if external is not None:
        peers = [{"podSelector": {}}, *_external_peers(external)]
    return [{"from": peers, "ports": [_port(number) for number in numbers]}]


def allow_ingress(pod_labels: Mapping[str, str], external: Sequence[str], port: int) -> Manifest:
    """The spec of a NetworkPolicy that lets `external` namespaces and address ranges call a port
    of these pods."""
    return {
        "podSelector": {"matchLabels": dict(pod_labels)},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": _external_peers(external), "ports": [_port(port)]}],
    }


def _external_peers(external: Sequence[str]) -> list[Manifest]:
    """Namespaces and address ranges as the peers of a policy."""
    return [
        {"ipBlock": {"cidr": each}}
        if "/" in each
        else {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": each}}}
        for each in external
    ]


def _port(number: int, protocol: str = "TCP") -> Manifest:
    return {"port": number, "protocol": protocol}
