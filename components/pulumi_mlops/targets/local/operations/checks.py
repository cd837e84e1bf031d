"""Checks of a stack on this machine: supervisor, sockets, ports, leftover claims and processes."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import psutil

from ....cli.checks import Finding, ok, warn, wrong
from ....cli.checks_models import served_versions
from ....files import parse_exports, read_json
from ....stackdir import StackDir
from ..host import launch, ports
from ..host.supervisor import Supervisor

_MAX_SOCKET_PATH = 107
# A cookie is <stack folder>:<program>, <stack folder>:job:<job>,
# <stack folder>:uv:<name> or <stack folder>:fetch:<name>.
_COOKIE = re.compile(r"(/.*/[^/:]+):(?:(job|uv|fetch):)?([^/:]+)")
_UPDATE = "run `pulumi up`"
_SHOWN = 5
"""The number of stacks and of files that one finding lists."""


@dataclass(frozen=True)
class Ours:
    """A process of a stack, identified by its cookie."""

    pid: int
    stack: Path
    kind: str
    name: str


def supervisor(root: StackDir) -> list[Finding]:
    """Whether supervisord runs all defined programs."""
    name = "supervisor"
    try:
        daemon = Supervisor(root)
        pid, programs = daemon.pid(), daemon.names()
    except PermissionError as error:  # the folder of its socket belongs to another user
        return [wrong(name, str(error), "remove that folder")]
    if not programs:
        return [ok(name, "not required: no program is defined")]
    if pid is None:
        message = f"not running; {len(programs)} programs are defined"
        return [wrong(name, message, _UPDATE)]
    down = sorted(set(programs) - {n for n, s in daemon.states().items() if s == "RUNNING"})
    if down:
        fix = f"see `mlops status` and `mlops logs {down[0]}`"
        return [wrong(name, f"pid {pid}; not running: {', '.join(down)}", fix)]
    return [ok(name, f"pid {pid} runs {len(programs)} programs")]


def models(root: StackDir) -> list[Finding]:
    """Whether the model versions that are served are still registered."""
    programs = [
        stored["env"]
        for file in (root.path / "programs").glob("*/spec.json")
        if (stored := read_json(file)) and "MLOPS_MODEL_NAME" in stored["env"]
    ]
    served = {(env["MLOPS_MODEL_NAME"], env["MLOPS_MODEL_VERSION"]) for env in programs}
    file = root.path / "files" / "client.env"
    variables = parse_exports(file.read_text()) if file.exists() else {}
    uri = next((env["MLFLOW_TRACKING_URI"] for env in programs), "")
    return served_versions(served, variables, uri)


def sockets(root: StackDir) -> list[Finding]:
    """Whether the paths of Unix sockets are within the system's limit."""
    name = "sockets"
    try:
        folder = root.runtime
    except PermissionError as error:
        return [wrong(name, str(error), "remove that folder")]
    # HAProxy first binds a temporary path with a suffix.
    planned = folder / "route-0123456789.sock.1234567.tmp"
    existing = [entry for entry in folder.rglob("*") if entry.is_socket()]
    longest = max([planned, *existing], key=lambda path: len(str(path).encode()))
    length = len(str(longest).encode())
    if length > _MAX_SOCKET_PATH:
        message = f"{longest} has {length} bytes; the limit is {_MAX_SOCKET_PATH}"
        return [wrong(name, message, "configure a shorter socket path for the program")]
    return [ok(name, f"in {folder}, paths have at most {length} bytes")]


def own_ports(root: StackDir) -> list[Finding]:
    """Whether only programs of this stack listen on its ports."""
    name = "ports"
    assigned = ports.assigned(root)
    listening = {
        connection.laddr.port: connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }
    checks = []
    for owner, port in sorted(assigned.items()):
        if port not in listening:
            continue
        if (pid := listening[port]) is None:
            message = f"port {port} of {owner} is held by a program of another user"
            checks.append(
                wrong(name, message, f"end it (`ss -ltnp sport = :{port}` as root shows it)")
            )
        elif (process_info := _stack_process(pid)) is None or process_info.stack != root.path:
            who = _process_name(pid)
            message = f"port {port} of {owner} is held by {who}, which is not part of this stack"
            checks.append(wrong(name, message, f"end {who}, then {_UPDATE}"))
    return checks or [ok(name, f"{len(assigned)} assigned, none is used by another program")]


def claims() -> list[Finding]:
    """Claims of ports by stacks that no longer exist. They have no effect."""
    name = "port claims"
    gone = {
        file: stack for file, (stack, _) in ports.claims().items()
        if not (stack / "ports.json").exists()
    }  # fmt: skip
    if not gone:
        return [ok(name, "all belong to existing stacks")]
    stacks = sorted({str(stack) for stack in gone.values()})
    files = sorted(map(str, gone))
    shown = ", ".join(stacks[:_SHOWN])
    if len(stacks) > _SHOWN:
        shown += f" and {len(stacks) - _SHOWN} more"
    if len(files) <= _SHOWN:
        fix = f"rm {shlex.join(files)}"
    else:
        fix = f"none is needed: they are ignored (files in {next(iter(gone)).parent})"
    return [warn(name, f"{len(gone)} of stacks that no longer exist: {shown}", fix)]


def leftovers() -> list[Finding]:
    """Processes of stacks that no longer exist, or of programs that are no longer defined."""
    name = "leftovers"
    by_origin: dict[str, list[int]] = {}
    for process in psutil.process_iter():
        if (origin := _missing_origin(process)) is not None:
            by_origin.setdefault(origin, []).append(process.pid)
    return [
        warn(
            name,
            f"processes of {origin} are still running",
            f"kill {' '.join(map(str, sorted(pids)))}",
        )
        for origin, pids in sorted(by_origin.items())
    ] or [ok(name, "no processes of stacks that no longer exist")]


def _missing_origin(process: psutil.Process) -> str | None:
    """The stack or program of `process` if it no longer exists; None otherwise."""
    if (process_info := _stack_process(process.pid)) is not None:
        if not process_info.stack.exists():
            return f"the stack in {process_info.stack}, which no longer exists,"
        folder = {"": "programs", "job": "jobs"}.get(process_info.kind)
        if folder and not (process_info.stack / folder / process_info.name).exists():
            return f"{process_info.name} in {process_info.stack}, which is no longer defined,"
        return None
    try:
        command = process.cmdline()
    except psutil.Error:
        return None
    # The cookie of supervisord itself has another form.
    if "supervisor.supervisord" in command and command[-1].endswith("/supervisor/supervisord.conf"):
        stack = Path(command[-1]).parents[1]
        if not stack.exists():
            return f"the stack in {stack}, which no longer exists,"
    return None


def _stack_process(pid: int) -> Ours | None:
    try:
        cookie = psutil.Process(pid).environ().get(launch.COOKIE, "")
    except (psutil.Error, OSError):
        return None
    if (match := _COOKIE.fullmatch(cookie)) is None:
        return None
    return Ours(pid, Path(match[1]), match[2] or "", match[3])


def _process_name(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"
