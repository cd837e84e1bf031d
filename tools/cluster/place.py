"""The files, names and addresses of the cluster of one checkout."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from progress import ToolError

Network = ipaddress.IPv4Network
# Networks for clusters: private networks that home and office routers rarely use.
CANDIDATES = [
    *(Network(f"10.{number}.0.0/16") for number in range(100, 250)),
    *(Network(f"172.{number}.0.0/16") for number in range(20, 32)),
]
NODE = "node"  # the node's name in Kubernetes
DOMAIN = "cluster.local"


@dataclass(frozen=True)
class Addresses:
    """The addresses of one cluster, all within one /16 network."""

    network: Network

    @property
    def host(self) -> str:
        """The address of the machine in the cluster network."""
        return str(self.network[1])

    @property
    def node(self) -> str:
        """The address of the node, with the API server and NodePorts."""
        return str(self.network[2])

    @property
    def link(self) -> Network:
        return Network((int(self.network[0]), 30))

    @property
    def services(self) -> Network:
        return list(self.network.subnets(new_prefix=18))[1]

    @property
    def pods(self) -> Network:
        return list(self.network.subnets(new_prefix=17))[1]

    @property
    def api_service(self) -> str:
        return str(self.services[1])

    @property
    def dns_service(self) -> str:
        return str(self.services[10])

    @property
    def server(self) -> str:
        return f"https://{self.node}:6443"


@dataclass(frozen=True)
class Place:
    """The folder of the cluster of one checkout, and names derived from the checkout."""

    checkout: Path

    @property
    def folder(self) -> Path:
        """The folder of the cluster, separate from stack folders: a stack may be named `cluster`.

        A cluster that an earlier version started keeps its folder until it is stopped.
        """
        earlier = self.checkout / ".mlops" / "cluster"
        return earlier if (earlier / "network.json").exists() else self.checkout / ".cluster"

    @property
    def key(self) -> str:
        return hashlib.sha256(str(self.checkout).encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """The name of the link on the machine (at most 15 characters), the cgroup and the host."""
        return f"mlops-{self.key}"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def etc(self) -> Path:
        return self.folder / "etc"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def addresses(self) -> Addresses:
        """The recorded network. Default: an unused network, which is then recorded."""
        file = self.folder / "network.json"
        with contextlib.suppress(OSError, ValueError, KeyError):
            return Addresses(Network(json.loads(file.read_text())["network"]))
        chosen = free_network(self.key, used_networks(self.name))
        file.write_text(json.dumps({"network": str(chosen)}))
        return Addresses(chosen)

    def check(self, addresses: Addresses) -> None:
        """Raise ToolError if the recorded network is now used by something else."""
        for used in used_networks(self.name):
            if addresses.network.overlaps(used):
                raise ToolError(
                    f"the network {addresses.network} of this cluster overlaps {used}, which the"
                    " machine uses: run `make cluster-down`, then `make cluster` uses another"
                )


def used_networks(own: str) -> list[Network]:
    """The networks of the machine's addresses and routes, without defaults and the link `own`."""
    used = []
    for what in (["route", "show", "table", "all"], ["addr", "show"]):
        command = ["ip", "-4", "-j", *what]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        for entry in json.loads(done.stdout or "[]"):
            if entry.get("dev", entry.get("ifname")) == own:
                continue
            if entry.get("dst", "default") != "default":
                used.append(Network(entry["dst"], strict=False))
            for address in entry.get("addr_info", []):
                used.append(Network((address["local"], address["prefixlen"]), strict=False))
    return used


def free_network(key: str, used: Iterable[Network]) -> Network:
    """An unused network. The key determines which candidate is tried first."""
    used_list = list(used)
    first = int(key, 16) % len(CANDIDATES)
    for candidate in [*CANDIDATES[first:], *CANDIDATES[:first]]:
        if not any(candidate.overlaps(network) for network in used_list):
            return candidate
    raise ToolError("no unused network for a cluster: routes cover all of 10.100-249 and 172.20-31")
