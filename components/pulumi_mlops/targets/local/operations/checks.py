"""Checks of a stack on this machine: supervisor, sockets, ports, and what was left behind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psutil

from ....cli.checks import Check, ok, warn, wrong
from ....stackdir import StackDir
from ..host import launch, ports
from ..host.supervisor import Supervisor

_LONGEST_SOCKET = 107
# A cookie is <folder of the stack>:<program>, or has `job` or `uv` between.
_COOKIE = re.compile(r"(/.*/[^/:]+):(?:(job|uv):)?([^/:]+)")
_PART_OF_UP = "run `pulumi up`"


@dataclass(frozen=True)
class Ours:
    """A process that a stack started, by the cookie that it carries."""

    pid: int
    stack: Path
    kind: str
    name: str


def supervisor(root: StackDir) -> list[Check]:
    """Whether what is defined is kept running."""
    name = "supervisor"
    try:
        found = Supervisor(root)
        pid, programs = found.pid(), found.names()
    except PermissionError as error:  # its socket's folder belongs to somebody else
        return [wrong(name, str(error), "remove that folder")]
    if not programs:
        return [ok(name, "not needed: no program is defined")]
    if pid is None:
        told = f"not running, and {len(programs)} programs are to run"
        return [wrong(name, told, _PART_OF_UP)]
    down = sorted(set(programs) - {n for n, s in found.states().items() if s == "RUNNING"})
    if down:
        fix = f"see `mlops status` and `mlops logs {down[0]}`"
        return [wrong(name, f"pid {pid}; not running: {', '.join(down)}", fix)]
    return [ok(name, f"pid {pid} runs {len(programs)} programs")]


def sockets(root: StackDir) -> list[Check]:
    """Whether the paths of Unix sockets are short enough."""
    name = "sockets"
    try:
        folder = root.runtime
    except PermissionError as error:
        return [wrong(name, str(error), "remove that folder")]
    # HAProxy binds beside the path first, with a suffix.
    planned = folder / "route-0123456789.sock.1234567.tmp"
    found = [entry for entry in folder.rglob("*") if entry.is_socket()]
    longest = max([planned, *found], key=lambda path: len(str(path).encode()))
    length = len(str(longest).encode())
    if length > _LONGEST_SOCKET:
        told = f"{longest} has {length} bytes; {_LONGEST_SOCKET} are possible"
        return [wrong(name, told, "give the program a shorter path for its socket")]
    return [ok(name, f"in {folder}, paths of at most {length} bytes")]


def own_ports(root: StackDir) -> list[Check]:
    """Whether the ports of this stack are held by its own programs."""
    name = "ports"
    taken = ports.taken(root)
    listening = {
        connection.laddr.port: connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }
    checks = []
    for owner, port in sorted(taken.items()):
        if port not in listening:
            continue
        if (pid := listening[port]) is None:
            told = f"port {port} of {owner} is held by a program of another user"
            checks.append(
                wrong(name, told, f"end it (`ss -ltnp sport = :{port}` as root shows it)")
            )
        elif (mine := _ours(pid)) is None or mine.stack != root.path:
            who = _called(pid)
            told = f"port {port} of {owner} is held by {who}, which is not of this stack"
            checks.append(wrong(name, told, f"end {who}, then {_PART_OF_UP}"))
    return checks or [ok(name, f"{len(taken)} taken, none by somebody else")]


def claims() -> list[Check]:
    """Claims of ports by stacks that are gone. They do not count; they are only in the way."""
    name = "port claims"
    gone = {
        file: stack for file, (stack, _) in ports.claims().items()
        if not (stack / "ports.json").exists()
    }  # fmt: skip
    if not gone:
        return [ok(name, "all are of stacks that are there")]
    stacks = ", ".join(sorted({str(stack) for stack in gone.values()}))
    files = f"{next(iter(gone)).parent}/{{{','.join(sorted(file.name for file in gone))}}}"
    if len(gone) == 1:
        files = str(next(iter(gone)))
    return [warn(name, f"{len(gone)} of stacks that are gone: {stacks}", f"rm {files}")]


def leftovers() -> list[Check]:
    """Processes of stacks that are gone, or of programs that are no longer defined."""
    name = "leftovers"
    found: dict[str, list[int]] = {}
    for process in psutil.process_iter():
        if (told := _left_by(process)) is not None:
            found.setdefault(told, []).append(process.pid)
    return [
        warn(name, f"processes of {told} still run", f"kill {' '.join(map(str, sorted(pids)))}")
        for told, pids in sorted(found.items())
    ] or [ok(name, "no process of a stack that is gone")]


def _left_by(process: psutil.Process) -> str | None:
    """The stack or program that is gone and that `process` was of."""
    if (mine := _ours(process.pid)) is not None:
        if not mine.stack.exists():
            return f"the stack in {mine.stack}, which is gone,"
        folder = {"": "programs", "job": "jobs"}.get(mine.kind)
        if folder and not (mine.stack / folder / mine.name).exists():
            return f"{mine.name} in {mine.stack}, which is not defined any more,"
        return None
    try:
        command = process.cmdline()
    except psutil.Error:
        return None
    # The supervisor itself carries no cookie.
    if "supervisor.supervisord" in command and command[-1].endswith("/supervisor/supervisord.conf"):
        stack = Path(command[-1]).parents[1]
        if not stack.exists():
            return f"the stack in {stack}, which is gone,"
    return None


def _ours(pid: int) -> Ours | None:
    try:
        cookie = psutil.Process(pid).environ().get(launch.COOKIE, "")
    except (psutil.Error, OSError):
        return None
    if (found := _COOKIE.fullmatch(cookie)) is None:
        return None
    return Ours(pid, Path(found[1]), found[2] or "", found[3])


def _called(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"
