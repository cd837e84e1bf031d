"""A model of HAProxy's runtime API, for tests of the reconciler without a process."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pulumi_mlops.runtime.router.haproxy import ProxyServer
from pulumi_mlops.runtime.router.haproxy_socket import CommandRefused, LiveServer


@dataclass
class ModelServer:
    """One server. `admin` is ready, drain or maint; `check` is none, passed or failed."""

    address: str
    weight: int
    admin: str
    check: str = "none"
    requests: int = 0


class ModelProxy:
    """Has the methods of RuntimeSocket. Refuses what HAProxy refuses."""

    def __init__(self) -> None:
        self.live: dict[str, ModelServer] = {}

    def restart(self, servers: list[ProxyServer]) -> None:
        """Start with the servers of the configuration file, none of which is checked."""
        self.live = {each.name: ModelServer(each.address, each.weight, "ready") for each in servers}

    def serving(self) -> set[str]:
        """The servers that HAProxy sends requests to: a server without a check counts as up."""
        return {
            name
            for name, each in self.live.items()
            if each.admin == "ready" and each.weight and each.check != "failed"
        }

    def servers(self, endpoint: str) -> dict[str, LiveServer]:
        return {
            name: LiveServer(
                name,
                each.address,
                each.weight,
                up=each.check == "passed" and each.admin != "maint",
                down=each.check == "failed" or each.admin == "maint",
                in_service=each.admin == "ready",
            )
            for name, each in self.live.items()
        }

    def busy_servers(self, endpoint: str) -> set[str]:
        return {name for name, each in self.live.items() if each.requests}

    def add(self, endpoint: str, server: ProxyServer) -> None:
        if server.name in self.live:
            raise CommandRefused("Already exists a server with the same name")
        self.live[server.name] = ModelServer(server.address, 0, "ready")

    def revive(self, endpoint: str, name: str) -> None:
        self._change(name, weight=0, admin="ready")

    def set_weights(self, endpoint: str, before: dict[str, int], after: dict[str, int]) -> None:
        for name, weight in after.items():
            if weight != before[name]:
                self._change(name, weight=weight)

    def drain(self, endpoint: str, name: str) -> None:
        self._change(name, weight=0, admin="drain")

    def delete(self, endpoint: str, name: str, close_connections: bool = False) -> bool:
        self._change(name, admin="maint")
        if close_connections:
            self._change(name, requests=0)
        if self.live[name].requests:
            return False
        del self.live[name]
        return True

    def _change(self, name: str, **changes: int | str) -> None:
        if name not in self.live:
            raise CommandRefused("No such server.")
        self.live[name] = replace(self.live[name], **changes)  # type: ignore[arg-type]
