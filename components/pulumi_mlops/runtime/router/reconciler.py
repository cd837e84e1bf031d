"""The reconciler: changes a running HAProxy, a step at a time, until it has the desired servers.

Both targets use it. The local target runs it within an update until it is settled; a route's pod
runs it for as long as the pod exists. It keeps nothing that matters: after a kill at any point, the
next reconciler continues from what HAProxy has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from . import planning
from .haproxy import ProxyBackend, ProxyServer, backend_servers
from .haproxy_socket import CommandRefused, RuntimeSocket
from .planning import Add, Command, Delete, Drain, Gate, Readiness, Revive, SetWeights

Save = Callable[[list[ProxyServer], bool], None]
"""Stores the servers that HAProxy needs after a restart. The flag says whether they belong to the
desired backends (True) or to the fallback."""


@dataclass(frozen=True)
class Step:
    """What one step found and did."""

    accepted: bool
    """The desired backends receive requests."""
    readiness: Readiness
    commands: tuple[Command, ...]
    draining: tuple[str, ...]
    """Servers that are not desired and still exist."""
    waiting: tuple[str, ...]
    """Desired servers that wait for their first passed check, and the servers held for them."""

    @property
    def settled(self) -> bool:
        """Nothing is left to do."""
        return self.accepted and not (self.commands or self.draining or self.waiting)

    @property
    def added(self) -> frozenset[str]:
        """The servers that this step added."""
        return frozenset(each.server.name for each in self.commands if isinstance(each, Add))


class Reconciler:
    """Brings the servers of one HAProxy backend to the desired state.

    Raises OSError without a response of HAProxy and CommandRefused when it refuses a command; the
    next step observes HAProxy again.
    """

    def __init__(self, endpoint: str, socket: RuntimeSocket, drain_seconds: float) -> None:
        self._endpoint, self._socket = endpoint, socket
        self._drain_seconds = drain_seconds
        self._drain_until: dict[str, float] = {}

    def step(
        self,
        desired: Mapping[str, ProxyBackend],
        gate: Gate,
        save: Save,
        *,
        fallback: Mapping[str, ProxyBackend] | None = None,
        admit_failed: bool = False,
    ) -> Step:
        """Observe HAProxy once and carry out the plan.

        While `desired` does not pass `gate`, `fallback` receives the requests; without a fallback
        the weights stay as they are. The desired servers are added and checked. `save` is
        called before the weights change, so that a restart of HAProxy in between loses no server.
        """
        live = self._socket.servers(self._endpoint)
        ready = planning.readiness(desired, live)
        accepted = ready.passes(gate)
        backends = desired if accepted else fallback
        candidates = backend_servers(desired)
        kept = {server.name for server in candidates}
        waiting: tuple[str, ...] = ()
        undesired: list[str] = []
        if backends is not None:
            weights = planning.target_weights(backends, live, admit_failed)
            servers = backend_servers(backends)
            names = {server.name for server in servers}
            weighted = {server.name for server in servers if server.weight}
            waiting = tuple(sorted((weighted - weights.keys()) | (weights.keys() - names)))
            undesired = sorted(live.keys() - kept - names - weights.keys())
            save([replace(each, weight=weights.get(each.name, 0)) for each in servers], accepted)
        busy, overdue = self._drain_state(undesired)
        commands = planning.plan(
            backends, candidates, live, busy=busy, overdue=overdue, admit_failed=admit_failed
        )
        self._run(commands)
        return Step(accepted, ready, tuple(commands), tuple(undesired), waiting)

    def remove(self, names: Iterable[str]) -> tuple[str, ...]:
        """Drain and delete servers by name; those that still exist. To be called until empty."""
        live = self._socket.servers(self._endpoint)
        present = [name for name in names if name in live]
        busy, overdue = self._drain_state(present)
        self._run(planning.removal(present, live, busy=busy, overdue=overdue))
        return tuple(present)

    def failures(self, servers: Iterable[ProxyServer]) -> str:
        """The last check result of each server, for messages. HAProxy may be restarting."""
        try:
            rows = self._socket.stat(self._endpoint)
        except (OSError, CommandRefused) as error:
            return f"HAProxy does not respond: {error}"
        texts = []
        for server in servers:
            row = rows.get(server.name, {})
            result = (row.get("check_desc"), row.get("check_code"), row.get("last_chk"))
            text = " ".join(filter(None, result)) or "not checked yet"
            texts.append(f"{server.address}{server.check_path}: {text}")
        return "; ".join(texts)

    def _drain_state(self, names: Iterable[str]) -> tuple[set[str], set[str]]:
        """Which of the servers to remove are busy, and which have passed their time limit."""
        now = time.monotonic()
        self._drain_until = {
            name: self._drain_until.get(name, now + self._drain_seconds) for name in names
        }
        if not self._drain_until:
            return set(), set()
        overdue = {name for name, until in self._drain_until.items() if now > until}
        return self._socket.busy_servers(self._endpoint), overdue

    def _run(self, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case Add(server):
                    self._socket.add(self._endpoint, server)
                case Revive(name):
                    self._socket.revive(self._endpoint, name)
                case SetWeights(before, after):
                    self._socket.set_weights(self._endpoint, before, after)
                case Drain(name):
                    self._socket.drain(self._endpoint, name)
                case Delete(name, close_connections):
                    self._socket.delete(self._endpoint, name, close_connections)
