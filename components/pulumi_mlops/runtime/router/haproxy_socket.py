"""HAProxy's runtime API: what it has, and changes without a restart.

Source: HAProxy 2.8's management manual (docs.haproxy.org), section "Unix Socket commands".
"""

from __future__ import annotations

import csv
import io
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .haproxy import CHECKS_FILE, DRAINING, SERVER_OPTIONS, Server


@dataclass(frozen=True)
class Live:
    """One server as HAProxy has it. `up`: its last check passed; `ready`: it is neither in
    maintenance nor draining."""

    name: str
    address: str
    weight: int
    up: bool
    ready: bool


class Refused(Exception):
    """HAProxy refused a command; the text is its answer."""


def weight_command(endpoint: str, before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """One line that sets what differs. What grows comes first: there is never a moment in which
    all weights are 0."""
    changed = sorted(
        (name for name in after if after[name] != before[name]),
        key=lambda name: before[name] - after[name],
    )
    return ";".join(f"set server {endpoint}/{name} weight {after[name]}" for name in changed)


def parse_servers_state(text: str) -> dict[str, Live]:
    """Servers by name, from the answer to `show servers state <backend>` (version 1)."""
    lines = text.splitlines()
    if len(lines) < 2 or lines[0] != "1" or not lines[1].startswith("# "):
        raise Refused(text.strip() or "no answer")
    columns = lines[1][2:].split()
    found = {}
    for line in lines[2:]:
        if not line:
            continue
        row = dict(zip(columns, line.split(), strict=False))
        found[row["srv_name"]] = Live(
            name=row["srv_name"],
            address=f"{row['srv_addr']}:{row['srv_port']}",
            weight=int(row["srv_uweight"]),
            # op_state 2 is running; check_result 3 is passed: HAProxy takes a server for running
            # before its first check.
            up=row["srv_op_state"] == "2" and row["srv_check_result"] == "3",
            ready=row["srv_admin_state"] == "0",
        )
    return found


def parse_stat(text: str) -> dict[tuple[str, str], dict[str, str]]:
    """Rows by (proxy, server), from the answer to `show stat`."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
    return {(row["pxname"], row["svname"]): row for row in rows if row["pxname"]}


def difference(live: Mapping[str, Live], servers: Iterable[Server]) -> str | None:
    """The first thing in which a running HAProxy is not as planned, or None."""
    planned = {server.name: server.weight for server in servers}
    for name in sorted(live.keys() | planned.keys()):
        if name not in live:
            return f"server {name} is missing"
        if name not in planned:
            return f"server {name} is left over"
        if not live[name].ready:
            return f"server {name} is out of service"
        if live[name].weight != planned[name]:
            return f"server {name} has weight {live[name].weight}, not {planned[name]}"
    return None


class RuntimeSocket:
    """HAProxy's runtime API. Raises OSError when nobody answers, Refused when HAProxy does."""

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)

    def ask(self, command: str) -> str:
        """The answer to one line of commands."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(self._path)
            connection.sendall(f"{command}\n".encode())
            answer = b""
            while part := connection.recv(65536):
                answer += part
        if not answer:
            raise ConnectionResetError("HAProxy ended while it was asked")
        return answer.decode()

    def do(self, command: str, allowed: str = "") -> None:
        """Run commands that answer nothing but, at most, a line that contains `allowed`."""
        for line in filter(None, self.ask(command).splitlines()):
            if not allowed or allowed not in line:
                raise Refused(line)

    def servers(self, endpoint: str) -> dict[str, Live]:
        """The servers of a backend by name."""
        return parse_servers_state(self.ask(f"show servers state {endpoint}"))

    def stat(self, endpoint: str) -> dict[str, dict[str, str]]:
        """HAProxy's statistics of a backend's servers by name."""
        rows = parse_stat(self.ask("show stat -1 4 -1"))
        return {server: row for (proxy, server), row in rows.items() if proxy == endpoint}

    def close_connections(self) -> None:
        """Have every client that gets an answer from now on come back by another connection."""
        # Twice is once: a map may hold a key twice, and that is no matter here.
        self.do(f"add map {CHECKS_FILE} {DRAINING} 1")

    def add(self, endpoint: str, server: Server) -> None:
        """Add `server` with weight 0, and check it from now on."""
        # What an interrupted update left in the map goes first: a map may hold a key twice.
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
        """Put a server back that was left draining or in maintenance; it begins with weight 0."""
        server = f"{endpoint}/{name}"
        self.do(f"set server {server} weight 0;enable health {server}")
        self.do(f"set server {server} state ready")

    def drain(self, endpoint: str, name: str) -> None:
        """Send a server no more requests; those that it has go on."""
        self.do(f"set server {endpoint}/{name} weight 0", allowed="No such server")
        self.do(f"set server {endpoint}/{name} state drain", allowed="No such server")

    def remove(self, endpoint: str, name: str, by_force: bool = False) -> bool:
        """Remove a server; False while connections hold it. By force they are closed."""
        server = f"{endpoint}/{name}"
        self.do(f"set server {server} state maint", allowed="No such server")
        if by_force:
            self.do(f"shutdown sessions server {server}", allowed="No such server")
        answer = self.ask(f"del server {server}").strip()
        if "still has connections" in answer:
            return False
        if "Server deleted" not in answer and "No such server" not in answer:
            raise Refused(answer)
        self.do(f"del map {CHECKS_FILE} {name}", allowed="Key not found")
        return True
