"""What a stack has on this machine and how it is, without the engine."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ....files import read_json
from ....runtime.router.haproxy_socket import CommandRefused, RuntimeSocket
from ....stackdir import StackDir
from ..host import health, jobs, ports
from ..host.supervisor import Program, Supervisor

# supervisord's word for an end that nobody asked for; it starts the program again.
_ENDED = re.compile(r"^(\S+ \S+) \w+ exited: (\S+) \(")
_ASK_SECONDS = 5.0


@dataclass(frozen=True)
class ProgramCondition:
    """A replica, a route's proxy or another program that is kept running."""

    name: str
    healthy: bool
    state: str
    """`ready`, `not ready`, `degraded` (a route whose every version has a server, but not all of
    them), or supervisord's word in small letters; `missing` when it has none."""
    reason: str
    """What is missing when it is not healthy; otherwise empty, or what it serves."""
    pid: int | None
    uptime_seconds: float | None
    restarts: int | None
    """How often it ended by itself since it was deployed or supervisord was started."""
    memory_bytes: int | None
    """Resident memory of it and its children; what they share is counted for each."""
    urls: dict[str, str]
    log: str


@dataclass(frozen=True)
class JobCondition:
    """A job and how its latest run went."""

    name: str
    healthy: bool
    state: str
    """`running`, `succeeded`, `failed`, or `not run` when nothing is known of a run."""
    exit_code: int | None
    started: float | None
    seconds: float | None
    reason: str
    outputs: dict[str, Any]
    log: str


@dataclass(frozen=True)
class VolumeCondition:
    """A folder of data and what it takes on disk."""

    name: str
    path: str
    bytes: int


@dataclass(frozen=True)
class Condition:
    """All of a stack."""

    supervisor_pid: int | None
    programs: list[ProgramCondition] = field(default_factory=list)
    jobs: list[JobCondition] = field(default_factory=list)
    volumes: list[VolumeCondition] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether nothing needs to be looked at."""
        return not self.ill

    @property
    def ill(self) -> list[ProgramCondition | JobCondition]:
        """What is not healthy."""
        parts: list[ProgramCondition | JobCondition] = [*self.programs, *self.jobs]
        return [part for part in parts if not part.healthy]


def examine(root: StackDir) -> Condition:
    """Ask supervisord, each program's health check and each proxy, all at the same time."""
    supervisor = Supervisor(root)
    infos = supervisor.infos()
    restarts = _restarts(root, supervisor.names())
    taken = ports.taken(root)

    def one(name: str) -> ProgramCondition | None:
        program = supervisor.definition(name)
        if program is None:  # removed meanwhile
            return None
        return _program(root, program, infos.get(name), restarts.get(name), taken)

    with ThreadPoolExecutor(max_workers=16) as pool:
        programs = list(pool.map(one, supervisor.names()))
        volumes = list(pool.map(_volume, _folders(root.path / "volumes")))
    return Condition(
        supervisor_pid=supervisor.pid(),
        programs=[program for program in programs if program],
        jobs=[_job(root, name) for name in jobs.names(root)],
        volumes=volumes,
    )


def _program(
    root: StackDir,
    program: Program,
    info: dict[str, Any] | None,
    restarts: int | None,
    taken: dict[str, int],
) -> ProgramCondition:
    prefix = f"{program.name}/"
    urls = {
        owner.removeprefix(prefix): f"http://127.0.0.1:{port}"
        for owner, port in sorted(taken.items())
        if owner.startswith(prefix)
    }
    state = info["statename"].lower() if info else "missing"
    pid = int(info["pid"]) if info and info["pid"] else None
    reason = ""
    if state in ("running", "starting"):
        state, reason = _answer(root, program)
    elif info and info["spawnerr"]:
        reason = str(info["spawnerr"])
    return ProgramCondition(
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
    """The state of a running program by how it answers, and what is to be said of it."""
    route = program.name.removesuffix(".route")
    if route != program.name and (stored := read_json(root.path / "routes" / route / "route.json")):
        return _route(stored)
    if program.health is None:
        return "ready", "it has no health check that is known"
    try:
        missing = health.probe(health.Check(**program.health), _ASK_SECONDS)
    except health.Failed as error:
        missing = str(error)
    return ("ready", "") if missing is None else ("not ready", missing)


def _route(stored: dict[str, Any]) -> tuple[str, str]:
    """The state of a route by its servers' checks; the shares of the services."""
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
    lost = {name for name, weight in weights.items() if weight} - up
    told = ", ".join(f"{server['service']} at {server['address']}" for server in down)
    state = "not ready" if lost else "degraded"
    return state, f"{told} {'does' if len(down) == 1 else 'do'} not answer (traffic: {shares})"


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
            continue  # ended meanwhile
    return total


def _restarts(root: StackDir, names: list[str]) -> dict[str, int]:
    """Ends that supervisord did not ask for, since each program was defined last."""
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
                found = _ENDED.match(line)
                if found and found[2] in counts and _time(found[1]) >= deployed[found[2]]:
                    counts[found[2]] += 1
    except FileNotFoundError:
        return {}
    return counts


def _time(text: str) -> float:
    """Seconds since the epoch of `2026-11-22 22:59:12,352` in local time."""
    whole, _, milliseconds = text.partition(",")
    return time.mktime(time.strptime(whole, "%Y-%m-%d %H:%M:%S")) + int(milliseconds) / 1000


def _job(root: StackDir, name: str) -> JobCondition:
    found = jobs.last_run(root, name) or {}
    outputs = read_json(root.path / "jobs" / name / "outputs.json")
    code, reason = found.get("exit_code"), str(found.get("reason") or "")
    if jobs.is_running(root, name):
        state = "running"
    elif not found:
        state = "not run"
    elif code == 0 and not reason:
        state = "succeeded"
    else:
        state = "failed"
        if not reason:
            reason = "it was killed" if code is None else f"exit code {code}"
    return JobCondition(
        name=name,
        healthy=state != "failed",
        state=state,
        exit_code=code,
        started=found.get("started"),
        seconds=found.get("seconds"),
        reason=reason,
        outputs=outputs if isinstance(outputs, dict) else {},
        log=str(jobs.log_of(root, name)),
    )


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir()) if path.exists() else []


def _volume(folder: Path) -> VolumeCondition:
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                total += Path(parent, file).lstat().st_blocks * 512
            except OSError:
                continue  # removed meanwhile
    return VolumeCondition(folder.name, str(folder), total)
