"""Keeps the proxy of a route's pod at the traffic table and the ready pods of each version.

A table is accepted when every version that it sends requests to has servers that pass HAProxy's
check. Until then the last accepted table stays in effect, and its pods may change.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .haproxy import ProxyBackend, ProxyServer, backend_servers
from .haproxy_socket import CommandRefused, RuntimeSocket
from .planning import Gate
from .reconciler import Reconciler, Step
from .watch import Manifest, TableEntry, read_table, server_addresses

_CHECK_SECONDS = 5.0
"""A table waits so long for all servers; then one of each version is enough."""
_TICK_SECONDS = 0.1
_RESYNC_SECONDS = 5.0
"""A proxy that nothing changes is observed so often, since it may have been restarted."""
_LEAVE_SECONDS = 5.0
_DRAIN_SECONDS = 300.0
_SOCKET_SECONDS = 20.0
"""The agent ends if HAProxy does not respond for so long."""
_IN_EFFECT = "the last accepted table stays in effect"

Table = Mapping[str, TableEntry]
Save = Callable[[Sequence[ProxyServer], Mapping[str, Any]], None]


class ProxyUnresponsive(Exception):
    """HAProxy's runtime socket did not respond for a long time."""


class Agent:
    """The desired table, the accepted table, and the loop that reconciles HAProxy with them.

    `save(servers, table)` stores what the proxy and the next agent start from. `accepted` is the
    table that the previous agent of this proxy stored, or None.
    """

    def __init__(
        self,
        endpoint: str,
        socket: RuntimeSocket,
        *,
        save: Save = lambda servers, table: None,
        accepted: Table | None = None,
    ) -> None:
        self._socket, self._save = socket, save
        self._reconciler = Reconciler(endpoint, socket, _DRAIN_SECONDS)
        self._changed = threading.Event()
        self._desired: Table | None = None
        self._addresses: Mapping[str, frozenset[str]] | None = None
        self._accepted = accepted
        self._waiting_for: Mapping[str, ProxyBackend] = {}
        self._waiting_since = 0.0
        self._settled = False
        self._last_message = ""

    @property
    def ready(self) -> bool:
        """Whether a table is accepted."""
        return self._accepted is not None

    @property
    def settled(self) -> bool:
        """Whether HAProxy has the desired state."""
        return self._settled

    def state(self) -> dict[str, Any]:
        """The accepted table."""
        return {"table": None if self._accepted is None else _as_json(self._accepted)}

    def drain(self) -> None:
        """Move the clients to other pods. Returns when they had time to reconnect.

        The cluster removes this pod from the Service in the same time.
        """
        self._socket.close_connections()
        time.sleep(_LEAVE_SECONDS)

    def take_table(self, config_maps: Mapping[str, Manifest]) -> None:
        """Called when the ConfigMap changes.

        A missing or invalid table is ignored, and the last valid one stays in effect.
        """
        for config_map in config_maps.values():
            try:
                self._desired = read_table(config_map)
            except (ValueError, TypeError) as error:
                self._log(f"the traffic table is invalid: {error}")
        self._changed.set()

    def take_slices(self, slices: Mapping[str, Manifest]) -> None:
        """Called when EndpointSlices change."""
        self._addresses = server_addresses(slices)
        self._changed.set()

    def run(self) -> None:
        """Reconcile for ever. Raises ProxyUnresponsive after 20 s without a response of HAProxy."""
        responded = time.monotonic()
        while True:
            self._changed.wait(_RESYNC_SECONDS if self._settled else _TICK_SECONDS)
            self._changed.clear()
            try:
                self.follow()
                responded = time.monotonic()
            except CommandRefused as error:
                self._settled = False
                self._log(f"HAProxy refused a command: {error}")
            except OSError as error:
                self._settled = False
                if time.monotonic() - responded > _SOCKET_SECONDS:
                    raise ProxyUnresponsive(f"HAProxy does not respond: {error}") from None
                self._log(f"HAProxy does not respond: {error}")

    def follow(self) -> None:
        """One step towards the desired table."""
        table = self._desired
        if table is None or self._addresses is None:
            return
        accepted = self._accepted
        backends = self._backends(table)

        def save(servers: Sequence[ProxyServer], of_desired: bool) -> None:
            stored = table if of_desired else accepted
            self._save(servers, _as_json(stored or {}))

        step = self._reconciler.step(
            backends,
            Gate.OPEN if table == accepted else self._gate(backends),
            save,
            fallback=None if accepted is None else self._backends(accepted),
        )
        if step.accepted:
            self._accepted = table
        self._settled = step.settled
        self._report(step, table, backends)

    def _backends(self, table: Table) -> dict[str, ProxyBackend]:
        addresses = self._addresses or {}
        return {
            version: ProxyBackend(
                entry.weight,
                tuple(f"{ip}:{entry.port}" for ip in sorted(addresses.get(entry.service, ()))),
                entry.check_path,
            )
            for version, entry in table.items()
        }

    def _gate(self, backends: Mapping[str, ProxyBackend]) -> Gate:
        now = time.monotonic()
        if backends != self._waiting_for:
            self._waiting_for, self._waiting_since = backends, now
        late = now - self._waiting_since >= _CHECK_SECONDS
        return Gate.EACH_BACKEND if late else Gate.ALL_SERVERS

    def _report(self, step: Step, table: Table, backends: Mapping[str, ProxyBackend]) -> None:
        weights = ", ".join(f"{version} {entry.weight}" for version, entry in table.items())
        if step.accepted:
            if step.commands:
                names = sorted(server.name for server in backend_servers(backends))
                self._log(f"traffic table: {weights}; servers: {', '.join(names) or 'none'}")
            return
        empty = [name for name in step.readiness.unserved if not backends[name].addresses]
        if empty:
            self._log(f"no pod of {', '.join(empty)} is ready: {_IN_EFFECT}")
        else:
            failing = ", ".join(server.name for server in step.readiness.failing)
            self._log(f"servers without a passed check: {failing}: {_IN_EFFECT}")

    def _log(self, line: str) -> None:
        if line != self._last_message:
            print(line, flush=True)
            self._last_message = line


def _as_json(table: Table) -> dict[str, Any]:
    return {version: asdict(entry) for version, entry in table.items()}
