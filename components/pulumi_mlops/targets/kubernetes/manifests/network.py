"""NetworkPolicies: exactly the flows that are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .metadata import Manifest, selector


def one_another(all_labels: Mapping[str, str]) -> list[Manifest]:
    """Ingress of pods that call one another, at ports of their own choice."""
    return [{"from": [{"podSelector": {"matchLabels": selector(all_labels)}}]}]


def calls_label(name: str) -> str:
    """The label of pods that call the service called `name`."""
    return f"calls.mlops/{name}"


WATCHES = {"mlops/watches": "true"}
"""The label of pods that look at every service."""


def deny_all() -> Manifest:
    """A NetworkPolicy's spec: what no other policy allows is not let through."""
    return {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def network_policy(
    all_labels: Mapping[str, str],
    ingress: Sequence[Manifest],
    calls: Sequence[tuple[Mapping[str, str], Sequence[int]]],
    *,
    anywhere: bool = False,
) -> Manifest:
    """A NetworkPolicy's spec: who may call these pods, and whom they may call.

    `calls` are the labels of pods, and the ports there. Names are resolved by everybody.
    """
    egress: list[Manifest] = [{"ports": [_port(53, "UDP"), _port(53)]}]
    egress += [
        {
            "to": [{"podSelector": {"matchLabels": dict(labels)}}],
            "ports": [_port(number) for number in numbers],
        }
        for labels, numbers in calls
    ]
    if anywhere:
        egress.append({})
    return {
        "podSelector": {"matchLabels": selector(all_labels)},
        "policyTypes": ["Ingress", "Egress"],
        **({"ingress": list(ingress)} if ingress else {}),
        "egress": egress,
    }


def callers(
    name: str,
    numbers: Sequence[int],
    beside: Sequence[str] | None,
    *,
    routed: bool = False,
) -> list[Manifest]:
    """Who may call a service: its callers and those that watch all; where it is public every pod of
    its namespace, and namespaces and addresses `beside`; where it is `routed` the proxies."""
    peers: list[Manifest] = [
        {"podSelector": {"matchLabels": {calls_label(name): "true"}}},
        {"podSelector": {"matchLabels": WATCHES}},
    ]
    if routed:
        peers.append({"podSelector": {"matchLabels": {"app.kubernetes.io/component": "route"}}})
    if beside is not None:
        peers = [{"podSelector": {}}, *_outsiders(beside)]
    return [{"from": peers, "ports": [_port(number) for number in numbers]}]


def let_in(chosen: Mapping[str, str], beside: Sequence[str], number: int) -> Manifest:
    """A NetworkPolicy's spec: what more than other policies allow, namespaces and addresses
    `beside` may call a port of these pods."""
    return {
        "podSelector": {"matchLabels": dict(chosen)},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": _outsiders(beside), "ports": [_port(number)]}],
    }


def _outsiders(named: Sequence[str]) -> list[Manifest]:
    """Namespaces, and ranges of addresses, as the peers of a policy."""
    return [
        {"ipBlock": {"cidr": each}}
        if "/" in each
        else {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": each}}}
        for each in named
    ]


def _port(number: int, protocol: str = "TCP") -> Manifest:
    return {"port": number, "protocol": protocol}
