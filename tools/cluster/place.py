"""Where one checkout's cluster keeps its things, and the names and addresses that are its own."""

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
# Where clusters may lie: private networks that home and office routers rarely hand out.
CANDIDATES = [
    *(Network(f"10.{number}.0.0/16") for number in range(100, 250)),
    *(Network(f"172.{number}.0.0/16") for number in range(20, 32)),
]
NODE = "node"  # the node's name in Kubernetes
DOMAIN = "cluster.local"


@dataclass(frozen=True)
class Addresses:
    """A /16 of one cluster, in parts."""

    network: Network

    @property
    def host(self) -> str:
        """The machine, as seen from the cluster."""
        return str(self.network[1])

    @property
    def node(self) -> str:
        """The node: its API server and its NodePorts."""
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
    """The state of the cluster of one checkout, and what is named after it."""

    checkout: Path

    @property
    def folder(self) -> Path:
        """Apart from the folders of environments, one of which may be called `cluster`.

        A cluster that an earlier version started stays where it is until it is ended.
        """
        earlier = self.checkout / ".mlops" / "cluster"
        return earlier if (earlier / "network.json").exists() else self.checkout / ".cluster"

    @property
    def key(self) -> str:
        return hashlib.sha256(str(self.checkout).encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """Names the link on the machine (15 characters at most), the cgroup and the host name."""
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
        """The remembered network, or a free one, from now on remembered."""
        file = self.folder / "network.json"
        with contextlib.suppress(OSError, ValueError, KeyError):
            return Addresses(Network(json.loads(file.read_text())["network"]))
        chosen = free_network(self.key, used_networks(self.name))
        file.write_text(json.dumps({"network": str(chosen)}))
        return Addresses(chosen)

    def check(self, addresses: Addresses) -> None:
        """Refuse a remembered network that something else has come to use meanwhile."""
        for used in used_networks(self.name):
            if addresses.network.overlaps(used):
                raise ToolError(
                    f"this cluster's network {addresses.network} is now used otherwise: {used};"
                    " `make cluster-down`, then `make cluster` takes another"
                )


def used_networks(own: str) -> list[Network]:
    """What the machine has addresses in or routes to, but for defaults and the link `own`."""
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
    """A network that nothing overlaps; which one is tried first follows from the key."""
    taken = list(used)
    first = int(key, 16) % len(CANDIDATES)
    for candidate in [*CANDIDATES[first:], *CANDIDATES[:first]]:
        if not any(candidate.overlaps(network) for network in taken):
            return candidate
    raise ToolError("no free network for a cluster: routes cover all of 10.100-249 and 172.20-31")
