"""`mlops logs` for the Kubernetes target."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ....cli.selection import Stack, UsageError, matching, select_logs
from ....cli.terminal import Style, duration, line_printer, table
from ....plugin.errors import ResourceError
from ..api.client import ClusterApi
from ..api.pods import Manifest
from .condition import ClusterJobStatus, WorkloadStatus, examine
from .follow import Follower
from .inventory import Inventory, connect, list_objects

_KINDS = ("Deployment", "StatefulSet", "Job", "CronJob", "Pod")


@dataclass(frozen=True)
class LogOptions:
    """The arguments of `mlops logs` for a name."""

    name: str
    lines: int
    previous: bool


def run(stack: Stack, name: str | None, *, follow: bool, lines: int, previous: bool) -> int:
    """List the logs, show the last lines of the selected ones, or follow them until Ctrl-C."""
    if previous and follow:
        raise UsageError("--previous shows a log that has ended: remove --follow")
    api = connect(stack)
    inventory = list_objects(api, stack, _KINDS)
    if name is None:
        print("\n".join(listing(api, inventory, Style(sys.stdout))))
        return 0
    names = select_logs(name, known(inventory))
    options = LogOptions(name, lines, previous)
    if follow:
        return _follow(api, stack, options, names, inventory)
    parts = [part for each in names for part in texts(api, inventory, each, options)]
    show = line_printer([name for name, _ in parts] or [""], Style(sys.stdout))
    for each, text in parts:
        for line in text.splitlines():
            show(each, line)
    return 0


def known(inventory: Inventory) -> list[str]:
    """The names of the workloads and jobs."""
    return sorted({*inventory.names("Deployment", "StatefulSet"), *inventory.job_names()})


def listing(api: ClusterApi, inventory: Inventory, style: Style) -> list[str]:
    """A table of workloads and jobs that have pods."""
    state = examine(api, inventory)
    rows = []
    parts: list[WorkloadStatus | ClusterJobStatus] = [*state.programs, *state.jobs]
    for part in parts:
        if pods := pods_of(inventory, part.name):
            names = ", ".join(pod["metadata"]["name"] for pod in pods)
            age = duration(part.age_seconds) if isinstance(part, WorkloadStatus) else ""
            rows.append([part.name, part.state, age, names])
    return table(["NAME", "STATE", "AGE", "PODS"], rows, style) if rows else ["There are no logs."]


def pods_of(inventory: Inventory, name: str, previous: bool = False) -> list[Manifest]:
    """The pods of a workload, or of the last run of a job; with `previous` the run before it."""
    if not (runs := inventory.jobs(name)):
        return inventory.pods(name)
    runs = runs[:-1] if previous else runs
    return inventory.pods_of_job(runs[-1]) if runs else []


def texts(
    api: ClusterApi, inventory: Inventory, name: str, options: LogOptions
) -> list[tuple[str, str]]:
    """The last log lines of each pod. Raises UsageError if there is no previous log."""
    is_job = bool(inventory.jobs(name))
    pods = pods_of(inventory, name, previous=is_job and options.previous)
    previous_container = options.previous and not is_job
    logs = [
        (pod, api.log(pod, container, options.lines, previous_container))
        for pod, container, restarts in _containers(pods)
        if restarts or not previous_container
    ]
    if options.previous and not logs:
        why = "it ran once" if is_job else "none of its pods was restarted"
        raise UsageError(f"{name} has no previous log: {why}")
    return logs


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
    inventory: Inventory,
) -> int:
    pods: dict[str, None] = {}
    shown = line_printer([""], Style(sys.stdout))

    def show(name: str, line: str) -> None:
        shown(name, line)
        sys.stdout.flush()

    follower = Follower(api, options.lines, show)
    reported = False
    try:
        while True:
            now = [pod for name in names for pod in pods_of(inventory, name)]
            if new := {pod["metadata"]["name"]: None for pod in now}.keys() - pods.keys():
                pods |= dict.fromkeys(sorted(new))
                shown = line_printer(list(pods), Style(sys.stdout))
            follower.update(now)
            follower.listen()
            try:
                inventory = list_objects(api, stack, _KINDS)
            except ResourceError as error:
                if not reported:
                    print(f"{Style(sys.stderr).unsure('note:')} {error}", file=sys.stderr)
                reported = True
                continue
            reported = False
            # An update of a model version creates a new workload with new pods.
            names = matching(options.name, known(inventory)) or names
    except KeyboardInterrupt:
        follower.flush()
    return 0
