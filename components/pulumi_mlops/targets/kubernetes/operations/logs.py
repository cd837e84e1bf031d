"""`mlops logs` of a cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ....cli.selection import Stack, UsageError, matching, select_logs
from ....cli.terminal import Style, duration, line_printer, table
from ....plugin.errors import ResourceError
from ..api.client import ClusterApi
from ..api.pods import Manifest
from .condition import JobCondition, WorkloadCondition, examine
from .follow import Follower
from .inventory import Inventory, connect, take

_KINDS = ("Deployment", "StatefulSet", "Job", "CronJob", "Pod")


@dataclass(frozen=True)
class LogOptions:
    """What `mlops logs` was asked to show of a name."""

    name: str
    lines: int
    previous: bool


def run(stack: Stack, name: str | None, *, follow: bool, lines: int, previous: bool) -> int:
    """List what has logs, show the end of those of a name, or follow them until interrupted."""
    if previous and follow:
        raise UsageError("--previous is not written to any more: leave out --follow")
    api = connect(stack)
    found = take(api, stack, _KINDS)
    if name is None:
        print("\n".join(listing(api, found, Style(sys.stdout))))
        return 0
    names = select_logs(name, known(found))
    options = LogOptions(name, lines, previous)
    if follow:
        return _follow(api, stack, options, names, found)
    parts = [part for each in names for part in texts(api, found, each, options)]
    show = line_printer([name for name, _ in parts] or [""], Style(sys.stdout))
    for each, text in parts:
        for line in text.splitlines():
            show(each, line)
    return 0


def known(found: Inventory) -> list[str]:
    """What may have logs."""
    return sorted({*found.names("Deployment", "StatefulSet"), *found.job_names()})


def listing(api: ClusterApi, found: Inventory, style: Style) -> list[str]:
    """What has logs, as a table."""
    state = examine(api, found)
    rows = []
    parts: list[WorkloadCondition | JobCondition] = [*state.programs, *state.jobs]
    for part in parts:
        if pods := pods_of(found, part.name):
            names = ", ".join(pod["metadata"]["name"] for pod in pods)
            age = duration(part.age_seconds) if isinstance(part, WorkloadCondition) else ""
            rows.append([part.name, part.state, age, names])
    return table(["NAME", "STATE", "AGE", "PODS"], rows, style) if rows else ["There are no logs."]


def pods_of(found: Inventory, name: str, before: bool = False) -> list[Manifest]:
    """The pods whose logs `name` means: of a job those of its last run, or the one `before`."""
    if not (runs := found.jobs(name)):
        return found.pods(name)
    runs = runs[:-1] if before else runs
    return found.pods_of_job(runs[-1]) if runs else []


def texts(
    api: ClusterApi, found: Inventory, name: str, options: LogOptions
) -> list[tuple[str, str]]:
    """The end of each pod's log. Raises UsageError when `--previous` asks for none."""
    is_job = bool(found.jobs(name))
    pods = pods_of(found, name, before=is_job and options.previous)
    earlier = options.previous and not is_job
    told = [
        (pod, api.log(pod, container, options.lines, earlier))
        for pod, container, restarts in _containers(pods)
        if restarts or not earlier
    ]
    if options.previous and not told:
        why = "it ran once" if is_job else "none of its pods was restarted"
        raise UsageError(f"{name} has no log before the one of now: {why}")
    return told


def _containers(pods: Sequence[Manifest]) -> list[tuple[str, str, int]]:
    """Pod, name and restarts of each container."""
    return [
        (pod["metadata"]["name"], each["name"], each.get("restartCount", 0))
        for pod in pods
        for each in pod.get("status", {}).get("containerStatuses", [])
    ]


def _follow(
    api: ClusterApi,
    stack: Stack,
    options: LogOptions,
    names: Sequence[str],
    found: Inventory,
) -> int:
    pods: dict[str, None] = {}
    shown = line_printer([""], Style(sys.stdout))

    def show(name: str, line: str) -> None:
        shown(name, line)
        sys.stdout.flush()

    follower = Follower(api, options.lines, show)
    silent = False
    try:
        while True:
            now = [pod for name in names for pod in pods_of(found, name)]
            if new := {pod["metadata"]["name"]: None for pod in now}.keys() - pods.keys():
                pods |= dict.fromkeys(sorted(new))
                shown = line_printer(list(pods), Style(sys.stdout))
            follower.look(now)
            follower.listen()
            try:
                found = take(api, stack, _KINDS)
            except ResourceError as error:
                if not silent:
                    print(f"{Style(sys.stderr).unsure('note:')} {error}", file=sys.stderr)
                silent = True
                continue
            silent = False
            # A changed version of a model is another workload, with pods of its own.
            names = matching(options.name, known(found)) or names
    except KeyboardInterrupt:
        follower.rest()
    return 0
