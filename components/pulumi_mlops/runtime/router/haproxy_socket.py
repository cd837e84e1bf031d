"""Client of HAProxy's runtime API: reads its servers and changes them without a restart.

Source: HAProxy 2.8 management manual (docs.haproxy.org), section "Unix Socket commands".
"""

from __future__ import annotations

import csv
import io
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .haproxy import CHECKS_FILE, DRAINING, SERVER_OPTIONS, ProxyServer


@dataclass(frozen=True)
class LiveServer:
    """The state of one server in a running HAProxy."""

    name: str
    address: str
    weight: int
    up: bool
    """Its last check passed."""
    down: bool
    """Its checks failed, so HAProxy sends it no requests. Neither up nor down before a check."""
    in_service: bool
    """It is neither in maintenance nor draining."""


class CommandRefused(Exception):
    """HAProxy refused a command. The text is HAProxy's response."""


def weight_command(endpoint: str, before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """One line with a command for each changed weight, or an empty string.

    Weights that grow come first, so the sum of the weights never is 0 in between.
    """
    changed = sorted(
        (name for name in after if after[name] != before[name]),
        key=lambda name: before[name] - after[name],
    )
    return ";".join(f"set server {endpoint}/{name} weight {after[name]}" for name in changed)


def parse_servers_state(text: str) -> dict[str, LiveServer]:
    """Servers by name, from the response to `show servers state <backend>` (version 1)."""
    lines = text.splitlines()
    if len(lines) < 2 or lines[0] != "1" or not lines[1].startswith("# "):
        raise CommandRefused(text.strip() or "empty response")
    columns = lines[1][2:].split()
    servers = {}
    for line in lines[2:]:
        if not line:
            continue
        row = dict(zip(columns, line.split(), strict=False))
        servers[row["srv_name"]] = LiveServer(
            name=row["srv_name"],
            address=f"{row['srv_addr']}:{row['srv_port']}",
            weight=int(row["srv_uweight"]),
            # op_state: 0 is stopped, 2 is running, which includes servers without any check so far.
            # check_result: 3 is passed.
            up=row["srv_op_state"] == "2" and row["srv_check_result"] == "3",
            down=row["srv_op_state"] == "0",
            in_service=row["srv_admin_state"] == "0",
        )
    return servers


def parse_stat(text: str) -> dict[tuple[str, str], dict[str, str]]:
    """Rows by (proxy, server), from the response to `show stat`."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
    return {(row["pxname"], row["svname"]): row for row in rows if row["pxname"]}


def difference(live: Mapping[str, LiveServer], servers: Iterable[ProxyServer]) -> str | None:
    """The first difference between a running HAProxy and the planned servers, or None."""
    planned = {server.name: server.weight for server in servers}
    for name in sorted(live.keys() | planned.keys()):
        if name not in live:
            return f"server {name} is missing"
        if name not in planned:
            return f"server {name} is left over"
        if not live[name].in_service:
            return f"server {name} is out of service"
        if live[name].weight != planned[name]:
            return f"server {name} has weight {live[name].weight}, not {planned[name]}"
    return None


class RuntimeSocket:
    """HAProxy's runtime API.

    Raises OSError without a response, and CommandRefused when HAProxy refuses a command.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)

    def ask(self, command: str) -> str:
        """The response to one line of commands."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(self._path)
            connection.sendall(f"{command}\n".encode())
            response = b""
            while part := connection.recv(65536):
                response += part
        # Every response ends with an empty line, so a response without it was cut off.
        if response != b"\n" and not response.endswith(b"\n\n"):
            raise ConnectionResetError("HAProxy closed the connection before the response ended")
        return response.decode()

    def do(self, command: str, allowed: str = "") -> None:
        """Run commands whose only valid response is empty or a line that contains `allowed`."""
        for line in filter(None, self.ask(command).splitlines()):
            if not allowed or allowed not in line:
                raise CommandRefused(line)

    def servers(self, endpoint: str) -> dict[str, LiveServer]:
        """The servers of a backend by name."""
        return parse_servers_state(self.ask(f"show servers state {endpoint}"))

    def stat(self, endpoint: str) -> dict[str, dict[str, str]]:
        """HAProxy's statistics of a backend's servers by name."""
        rows = parse_stat(self.ask("show stat -1 4 -1"))
        return {server: row for (proxy, server), row in rows.items() if proxy == endpoint}

    def busy_servers(self, endpoint: str) -> set[str]:
        """The servers with requests in flight."""
        return {name for name, row in self.stat(endpoint).items() if row["scur"] != "0"}

    def close_connections(self) -> None:
        """Close each client connection after its next response."""
        # A second call adds the key again, which has no effect.
        self.do(f"add map {CHECKS_FILE} {DRAINING} 1")

    def add(self, endpoint: str, server: ProxyServer) -> None:
        """Add `server` with weight 0 and start its checks."""
        # A map can hold a key twice, so an entry of an interrupted update is deleted first.
        self.do(f"del map {CHECKS_FILE} {server.name}", allowed="Key not found")
        self.do(f"add map {CHECKS_FILE} {server.name} {server.check_path}")
        name = f"{endpoint}/{server.name}"
        self.do(
            f"add server {name} {server.address} weight 0 {SERVER_OPTIONS}",
            allowed="New server registered",
        )
        self.do(f"enable health {name}")
        self.do(f"enable server {name}")

    def revive(self, endpoint: str, name: str) -> None:
        """Return a server that drains or is in maintenance to service, with weight 0."""
        server = f"{endpoint}/{name}"
        self.do(f"set server {server} weight 0;enable health {server}")
        self.do(f"set server {server} state ready")

    def set_weights(
        self, endpoint: str, before: Mapping[str, int], after: Mapping[str, int]
    ) -> None:
        """Change the weights of all servers with one line of commands."""
        if command := weight_command(endpoint, before, after):
            self.do(command)

    def drain(self, endpoint: str, name: str) -> None:
        """Send a server no new requests. Requests in flight continue."""
        self.do(f"set server {endpoint}/{name} weight 0", allowed="No such server")
        self.do(f"set server {endpoint}/{name} state drain", allowed="No such server")

    def delete(self, endpoint: str, name: str, close_connections: bool = False) -> bool:
        """Delete a server; False if open connections prevent it."""
        server = f"{endpoint}/{name}"
        self.do(f"set server {server} state maint", allowed="No such server")
        if close_connections:
            self.do(f"shutdown sessions server {server}", allowed="No such server")
        response = self.ask(f"del server {server}").strip()
        if "still has connections" in response:
            return False
        if "Server deleted" not in response and "No such server" not in response:
            raise CommandRefused(response)
        self.do(f"del map {CHECKS_FILE} {name}", allowed="Key not found")
        return True
