"""Keeps a HAProxy as the traffic table and the ready pods say, without losing a request.

A table counts once every version that it gives requests to has a server that HAProxy has checked;
until then the one before goes on. Pods come and go under the table that counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from . import haproxy
from .haproxy import Server, Service
from .haproxy_socket import Refused, RuntimeSocket, weight_command
from .watch import Entry, Manifest, server_addresses, table_of

_CHECK_SECONDS = 5.0
_TICK_SECONDS = 0.2
_LEAVE_SECONDS = 5.0
_DRAIN_SECONDS = 300.0

Table = Mapping[str, Entry]


class Agent:
    """What is wanted, what counts, and the loop that brings one to the other."""

    def __init__(self, endpoint: str, socket: RuntimeSocket) -> None:
        self._endpoint, self._socket = endpoint, socket
        self._changed = threading.Event()
        self._wanted: Table | None = None
        self._addresses: Mapping[str, frozenset[str]] | None = None
        self._applied: Table | None = None
        self._draining: dict[str, float] = {}
        self._told = ""

    @property
    def ready(self) -> bool:
        """Whether a table counts."""
        return self._applied is not None

    def state(self) -> dict[str, Any]:
        """The table that counts."""
        table = self._applied
        return {
            "table": None if table is None else {key: asdict(entry) for key, entry in table.items()}
        }

    def drain(self) -> None:
        """Return once clients had time to come back by other pods: the cluster has told every node
        meanwhile that this one is about to end."""
        self._socket.close_connections()
        time.sleep(_LEAVE_SECONDS)

    def take_table(self, config_maps: Mapping[str, Manifest]) -> None:
        """The table is another one. Without any, and with one that cannot be, the last counts."""
        for found in config_maps.values():
            try:
                self._wanted = table_of(found)
            except (ValueError, TypeError) as error:
                self._tell(f"the table cannot be read: {error}")
        self._changed.set()

    def take_slices(self, slices: Mapping[str, Manifest]) -> None:
        """Other pods are ready."""
        self._addresses = server_addresses(slices)
        self._changed.set()

    def run(self) -> None:
        """Follow for ever. Raises OSError when HAProxy is gone."""
        while True:
            self._changed.wait(_TICK_SECONDS if self._draining or self._pending else None)
            self._changed.clear()
            try:
                self.follow()
            except Refused as error:
                self._tell(f"HAProxy refused: {error}")
                self._changed.set()
                time.sleep(_TICK_SECONDS)

    @property
    def _pending(self) -> bool:
        return self._wanted != self._applied

    def follow(self) -> None:
        """One step: HAProxy as what is known says."""
        if self._wanted is None or self._addresses is None:
            return
        table = self._wanted
        missing = [
            key
            for key, entry in table.items()
            if entry.weight and not self._addresses.get(entry.service)
        ]
        if self._pending and missing:
            self._tell(f"no pod of {', '.join(missing)} is ready: the table before goes on")
            if self._applied is None:
                return
            table = self._applied
        self._apply(table)

    def _apply(self, table: Table) -> None:
        servers = self._plan(table)
        self._add(servers)
        if table != self._applied and not self._checked(servers):
            self._tell("a server that is to get requests does not pass: the table before goes on")
            if self._applied is None:
                return
            # Its pods come and go meanwhile. Those of the new one stay, to be checked.
            table, waiting = self._applied, servers
            servers = self._plan(table)
            self._add(servers)
            names = {server.name for server in servers}
            servers += [replace(each, weight=0) for each in waiting if each.name not in names]
        planned = {server.name: server.weight for server in servers}
        before = {name: each.weight for name, each in self._socket.servers(self._endpoint).items()}
        after = {**dict.fromkeys(before, 0), **planned}
        if command := weight_command(self._endpoint, before, after):
            self._socket.do(command)
            self._tell(f"weights {self._shares(table)}; servers {sorted(planned)}")
        self._applied = table
        self._drain(before.keys() - planned.keys())

    def _add(self, servers: list[Server]) -> None:
        """Let HAProxy have these, and check them; a new one has weight 0."""
        live = self._socket.servers(self._endpoint)
        for server in servers:
            if server.name not in live:
                self._socket.add(self._endpoint, server)
            elif not live[server.name].ready:
                self._socket.revive(self._endpoint, server.name)
            self._draining.pop(server.name, None)

    def _plan(self, table: Table) -> list[Server]:
        addresses = self._addresses or {}
        services = {
            key: Service(
                entry.weight,
                tuple(f"{ip}:{entry.port}" for ip in sorted(addresses.get(entry.service, ()))),
                entry.check_path,
            )
            for key, entry in table.items()
        }
        there = {key: service for key, service in services.items() if service.addresses}
        if not any(service.weight for service in there.values()):
            # None that gets requests is ready: those that wait get none all the same.
            return [
                Server(haproxy.server_name(key, address, one.check_path), key, address, 0,
                       one.check_path)
                for key, one in there.items()
                for address in one.addresses
            ]  # fmt: skip
        return haproxy.plan(there)

    def _checked(self, servers: list[Server]) -> bool:
        """Whether each service that gets requests has a server that passes, within a while."""
        wanted = {server.service for server in servers if server.weight}
        deadline = time.monotonic() + _CHECK_SECONDS
        while True:
            live = self._socket.servers(self._endpoint)
            up = {
                server.service
                for server in servers
                if server.weight and server.name in live and live[server.name].up
            }
            if up >= wanted:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)

    def _drain(self, names: Any) -> None:
        for name in names:
            if name not in self._draining:
                self._socket.drain(self._endpoint, name)
                self._draining[name] = time.monotonic() + _DRAIN_SECONDS
        if not self._draining:
            return
        rows = self._socket.stat(self._endpoint)
        for name, deadline in list(self._draining.items()):
            late = time.monotonic() > deadline
            busy = rows.get(name, {}).get("scur", "0") != "0"
            if (not busy or late) and self._socket.remove(self._endpoint, name, by_force=late):
                del self._draining[name]

    @staticmethod
    def _shares(table: Table) -> str:
        return ", ".join(f"{key} {entry.weight}" for key, entry in table.items())

    def _tell(self, line: str) -> None:
        if line != self._told:
            print(line, flush=True)
            self._told = line
