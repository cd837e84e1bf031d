"""The status of a stack on this machine, determined without the engine."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

from ....cli.recorded import RecordedStack
from ....files import read_json
from ....runtime.router.haproxy_socket import CommandRefused, RuntimeSocket
from ....stackdir import StackDir
from ..host import health, jobs, ports
from ..host.names import log_file, program_name
from ..host.supervisor import Program, Supervisor
from . import volumes
from .volumes import LocalVolumeStatus

# The log line of supervisord for a program that exited by itself and is restarted.
_EXITED = re.compile(r"^(\S+ \S+) \w+ exited: (\S+) \(")
_PROBE_SECONDS = 5.0


@dataclass(frozen=True)
class LocalServiceStatus:
    """A replica, a route's proxy or another program that is kept running."""

    name: str
    healthy: bool
    state: str
    """`ready`, `not ready`, `degraded` (some servers of a route are down, but each version has
    one), a state of supervisord in lower case, or `missing` if supervisord does not know it."""
    reason: str
    """Why it is not healthy. For a healthy route its traffic, otherwise empty."""
    pid: int | None
    uptime_seconds: float | None
    restarts: int | None
    """How often it exited by itself since its last update or the start of supervisord."""
    memory_bytes: int | None
    """Resident memory of the process and its children. Shared memory is counted several times."""
    urls: dict[str, str]
    log: str


@dataclass(frozen=True)
class LocalJobStatus:
    """A job and the result of its latest run."""

    name: str
    healthy: bool
    state: str
    """`running`, `succeeded`, `failed`, or `not run` without a known run."""
    exit_code: int | None
    started: float | None
    seconds: float | None
    reason: str
    outputs: dict[str, Any]
    log: str


@dataclass(frozen=True)
class LocalStatus:
    """The status of a whole stack."""

    supervisor_pid: int | None
    update_failed: float | None = None
    """When the last update failed, in seconds since the epoch. Parts may be missing then."""
    programs: list[LocalServiceStatus] = field(default_factory=list)
    jobs: list[LocalJobStatus] = field(default_factory=list)
    volumes: list[LocalVolumeStatus] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether everything is there and healthy."""
        return not self.unhealthy and self.update_failed is None

    @property
    def unhealthy(self) -> list[LocalPart]:
        """The programs, jobs and volumes that are not healthy."""
        parts: list[LocalPart] = [*self.programs, *self.jobs, *self.volumes]
        return [part for part in parts if not part.healthy]


LocalPart = LocalServiceStatus | LocalJobStatus | LocalVolumeStatus


def examine(root: StackDir, recorded: RecordedStack | None = None) -> LocalStatus:
    """Query supervisord, all health checks and all proxies concurrently.

    What the state in `recorded` has and this machine lacks is missing.
    """
    supervisor = Supervisor(root)
    infos = supervisor.infos()
    restarts = _restarts(root, supervisor.names())
    assigned = ports.assigned(root)

    def one(name: str) -> LocalServiceStatus | None:
        program = supervisor.definition(name)
        if program is None:  # removed in the meantime
            return None
        return _program(root, program, infos.get(name), restarts.get(name), assigned)

    with ThreadPoolExecutor(max_workers=16) as pool:
        programs = list(pool.map(one, supervisor.names()))
        found_volumes = list(pool.map(volumes.examine, volumes.folders(root.path / "volumes")))
    status = LocalStatus(
        supervisor_pid=supervisor.pid(),
        update_failed=recorded.failed if recorded else None,
        programs=[program for program in programs if program],
        jobs=[_job(root, name) for name in jobs.names(root)],
        volumes=found_volumes,
    )
    for resource in recorded.resources if recorded else ():
        _add_missing(status, root, resource)
    return status


MISSING = "the state has it, but it is not on this machine"


def _add_missing(status: LocalStatus, root: StackDir, resource: Mapping[str, Any]) -> None:
    """Add the parts of a recorded resource that are not on this machine."""
    kind, name = resource.get("type"), str(resource.get("id") or "")
    parts: list[LocalPart] = [*status.programs, *status.jobs, *status.volumes]
    known = {part.name for part in parts}
    if kind == "mlops:local:Run" and name not in known:
        missing = _job(root, name)
        status.jobs.append(replace(missing, healthy=False, state="missing", reason=MISSING))
    elif kind == "mlops:local:Volume" and name not in known:
        path = str(root.path / "volumes" / name)
        status.volumes.append(LocalVolumeStatus(name, False, path, 0, MISSING))
    expected: list[str] = []
    if kind == "mlops:local:Process":
        replicas = int((resource.get("inputs") or {}).get("replicas") or 1)
        expected = [program_name(name, index) for index in range(replicas)]
    elif kind == "mlops:local:Route":
        expected = [f"{name}.route"]
    status.programs.extend(
        LocalServiceStatus(
            name=each, healthy=False, state="missing", reason=MISSING, pid=None,
            uptime_seconds=None, restarts=None, memory_bytes=None, urls={},
            log=str(log_file(root, each)),
        )
        for each in expected
        if each not in known
    )  # fmt: skip


def _program(
    root: StackDir,
    program: Program,
    info: dict[str, Any] | None,
    restarts: int | None,
    assigned: dict[str, int],
) -> LocalServiceStatus:
    prefix = f"{program.name}/"
    urls = {
        owner.removeprefix(prefix): f"http://127.0.0.1:{port}"
        for owner, port in sorted(assigned.items())
        if owner.startswith(prefix)
    }
    state = info["statename"].lower() if info else "missing"
    pid = int(info["pid"]) if info and info["pid"] else None
    reason = ""
    if state in ("running", "starting"):
        state, reason = _answer(root, program)
        if state == "ready" and _is_stopped(pid):
            # Its port still accepts connections.
            state, reason = "not ready", f"its process is stopped (kill -CONT {pid} continues it)"
    elif info and info["spawnerr"]:
        reason = str(info["spawnerr"])
    return LocalServiceStatus(
        name=program.name,
        healthy=state == "ready",
        state=state,
        reason=reason,
        pid=pid,
        uptime_seconds=max(0.0, time.time() - info["start"]) if info and pid else None,
        restarts=restarts if info else None,
        memory_bytes=_memory(pid),
        urls=urls,
        log=str(program.log),
    )


def _answer(root: StackDir, program: Program) -> tuple[str, str]:
    """State and reason of a running program, by its health check."""
    route = program.name.removesuffix(".route")
    if route != program.name and (stored := read_json(root.path / "routes" / route / "route.json")):
        return _route(stored)
    if program.health is None:
        return "ready", "no health check is known"
    try:
        reason = health.probe(health.HealthCheck(**program.health), _PROBE_SECONDS)
    except health.Failed as error:
        reason = str(error)
    return ("ready", "") if reason is None else ("not ready", reason)


def _route(stored: dict[str, Any]) -> tuple[str, str]:
    """State and reason of a route, by the health checks of its servers."""
    try:
        live = RuntimeSocket(stored["settings"]["socket"]).servers(stored["settings"]["endpoint"])
    except (OSError, CommandRefused) as error:
        return "not ready", f"its proxy does not answer ({error})"
    weights: Counter[str] = Counter()
    for server in stored["servers"]:
        weights[server["service"]] += server["weight"]
    total = sum(weights.values()) or 1
    shares = ", ".join(f"{name} {100 * weight / total:.0f} %" for name, weight in weights.items())
    down = [
        server
        for server in stored["servers"]
        if server["name"] not in live or not live[server["name"]].up
    ]
    if not down:
        return "ready", shares
    up = {server["service"] for server in stored["servers"] if server not in down}
    without_server = {name for name, weight in weights.items() if weight} - up
    unreachable = ", ".join(f"{server['service']} at {server['address']}" for server in down)
    state = "not ready" if without_server else "degraded"
    return (
        state,
        f"{unreachable} {'does' if len(down) == 1 else 'do'} not answer (traffic: {shares})",
    )


def _is_stopped(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def _memory(pid: int | None) -> int | None:
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return None
    total = 0
    for each in family:
        try:
            total += each.memory_info().rss
        except psutil.Error:
            continue  # ended in the meantime
    return total


def _restarts(root: StackDir, names: list[str]) -> dict[str, int]:
    """The number of unexpected exits of each program since its last update."""
    deployed = {}
    for name in names:
        try:
            deployed[name] = (root.path / "programs" / name / "program.ini").stat().st_mtime
        except FileNotFoundError:
            continue
    counts = dict.fromkeys(deployed, 0)
    try:
        with (root.path / "supervisor" / "supervisord.log").open(errors="replace") as lines:
            for line in lines:
                match = _EXITED.match(line)
                if match and match[2] in counts and _time(match[1]) >= deployed[match[2]]:
                    counts[match[2]] += 1
    except FileNotFoundError:
        return {}
    return counts


def _time(text: str) -> float:
    """Seconds since the epoch for a local time such as `2026-11-22 22:59:12,352`."""
    whole, _, milliseconds = text.partition(",")
    return time.mktime(time.strptime(whole, "%Y-%m-%d %H:%M:%S")) + int(milliseconds) / 1000


def _job(root: StackDir, name: str) -> LocalJobStatus:
    last_run = jobs.last_run(root, name) or {}
    outputs = read_json(root.path / "jobs" / name / "outputs.json")
    code, reason = last_run.get("exit_code"), str(last_run.get("reason") or "")
    if jobs.is_running(root, name):
        state = "running"
    elif not last_run:
        state = "not run"
    elif code == 0 and not reason:
        state = "succeeded"
    else:
        state = "failed"
        if not reason:
            reason = "it was killed" if code is None else f"exit code {code}"
    return LocalJobStatus(
        name=name,
        healthy=state != "failed",
        state=state,
        exit_code=code,
        started=last_run.get("started"),
        seconds=last_run.get("seconds"),
        reason=reason,
        outputs=outputs if isinstance(outputs, dict) else {},
        log=str(jobs.log_of(root, name)),
    )
