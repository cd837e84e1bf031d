"""The status of a process, from the supervisor and the health checks of its replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....stackdir import StackDir
from ..host import health
from ..host.names import program_name
from ..host.supervisor import UP, Supervisor


def status(root: StackDir, resource_id: str, state: dict[str, Any]) -> str:
    """`running`, or how many replicas are stopped or starting."""
    replicas = int(state.get("replicas") or 1)
    seconds = float((state.get("health") or {}).get("timeoutSeconds") or 0)
    supervisor = Supervisor(root)
    infos = supervisor.infos()
    programs = [program_name(resource_id, index) for index in range(replicas)]
    up = [name for name in programs if infos.get(name, {}).get("statename") in UP]
    if len(up) < replicas:
        down = replicas - len(up)
        return "stopped" if down == replicas else f"{down} of {replicas} stopped"
    starting = sum(_is_starting(supervisor, infos[name], seconds) for name in programs)
    if not starting:
        return "running"
    return "starting" if starting == replicas else f"{starting} of {replicas} starting"


def _is_starting(supervisor: Supervisor, info: dict[str, Any], seconds: float) -> bool:
    """Whether a program is not ready yet, such as after a crash.

    A program older than `seconds`, its startup timeout, does not count as starting.
    """
    if int(info["now"]) - int(info["start"]) >= seconds:
        return False
    program = supervisor.definition(info["group"])
    if program is None or program.health is None:
        return False
    try:
        return health.probe(health.HealthCheck(**program.health), timeout=2) is not None
    except health.Failed:
        return True


def crash_watch(supervisor: Supervisor, names: list[str]) -> Callable[[], str | None]:
    """A function that returns an error once one of `names` has ended three times, else None."""
    pids: dict[str, set[int]] = {name: set() for name in names}

    def crashed() -> str | None:
        for name, info in supervisor.infos().items():
            if name not in pids:
                continue
            if info["pid"]:
                pids[name].add(int(info["pid"]))
            if len(pids[name]) > 2 or info["statename"] == "FATAL":
                return f"it ended {len(pids[name])} times"
        return None

    return crashed
