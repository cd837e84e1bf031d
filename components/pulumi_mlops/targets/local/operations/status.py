"""`mlops status` for the local target."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from ....cli.recorded import recorded_stack
from ....cli.selection import Stack
from ....cli.terminal import Style, ago, duration, marked, size, table
from .condition import (
    MISSING,
    LocalJobStatus,
    LocalPart,
    LocalServiceStatus,
    LocalStatus,
    examine,
)
from .volumes import LocalVolumeStatus


def run(stack: Stack, *, as_json: bool) -> int:
    """Show the status of a stack. Returns 1 if something is not healthy."""
    status = examine(stack.root, recorded_stack(stack))
    if as_json:
        print(json.dumps(json_form(stack, status), indent=1))
    else:
        print("\n".join(render(stack, status, Style(sys.stdout))))
    return 0 if status.healthy else 1


def json_form(stack: Stack, status: LocalStatus) -> dict[str, object]:
    """The output of `--json`."""
    return {
        "stack": stack.name,
        "path": str(stack.root.path),
        "healthy": status.healthy,
        "update_failed": status.update_failed,
        "supervisor": {"running": status.supervisor_pid is not None, "pid": status.supervisor_pid},
        "programs": [asdict(part) for part in status.programs],
        "jobs": [asdict(part) for part in status.jobs],
        "volumes": [asdict(part) for part in status.volumes],
    }


def render(stack: Stack, status: LocalStatus, style: Style) -> list[str]:
    """The output as text."""
    lines = [f"{style.title(stack.name)}  {style.quiet(str(stack.root.path))}"]
    if status.supervisor_pid is None and status.programs:
        lines += [
            "",
            style.bad("The supervisor is not running: run `pulumi up` or `mlops service start`."),
        ]
    if status.programs:
        lines += ["", *_programs(status.programs, style)]
    if status.jobs:
        lines += ["", *_jobs(status.jobs, style)]
    if status.volumes:
        lines += ["", *_volumes(status.volumes, style)]
    if not (status.programs or status.jobs or status.unhealthy or status.update_failed):
        return [*lines, "", "Nothing is running here: run `pulumi up` to provision it."]
    return [*lines, "", *_unhealthy(status, style)]


def _programs(programs: list[LocalServiceStatus], style: Style) -> list[str]:
    rows = [
        [
            part.name,
            part.state,
            duration(part.uptime_seconds) if part.uptime_seconds is not None else "",
            str(part.restarts) if part.restarts is not None else "",
            size(part.memory_bytes) if part.memory_bytes is not None else "",
            part.urls.get("http") or next(iter(part.urls.values()), ""),
            part.reason if part.healthy else "",
        ]
        for part in programs
    ]
    heads = ["PROGRAM", "STATE", "UPTIME", "RESTARTS", "MEMORY", "URL", ""]
    return marked(table(heads, rows, style), [part.healthy for part in programs], style)


def _jobs(jobs: list[LocalJobStatus], style: Style) -> list[str]:
    rows = [
        [
            part.name,
            part.state,
            ago(part.started),
            duration(part.seconds) if part.seconds is not None else "",
        ]
        for part in jobs
    ]
    heads = ["JOB", "LAST RUN", "STARTED", "TOOK"]
    return marked(table(heads, rows, style), [part.healthy for part in jobs], style)


def _volumes(volumes: list[LocalVolumeStatus], style: Style) -> list[str]:
    rows = [[part.name, size(part.bytes), part.path] for part in volumes]
    lines = table(["VOLUME", "SIZE", "PATH"], rows, style)
    return marked(lines, [part.healthy for part in volumes], style)


def _unhealthy(status: LocalStatus, style: Style) -> list[str]:
    """What is not healthy, with reason and log; or a line that everything is healthy."""
    if status.healthy:
        return [style.good("Everything is healthy.")]
    lines = []
    if status.update_failed is not None:
        text = f"The last update failed {ago(status.update_failed)}"
        lines.append(style.bad(f"{text}: parts may be missing or old. Run `pulumi up`."))
    for part in status.unhealthy:
        if status.supervisor_pid is None and isinstance(part, LocalServiceStatus):
            continue  # the line about the supervisor covers all programs
        reason = f": {part.reason}" if part.reason else ""
        lines.append(f"{style.bad(part.name)} {_state_text(part)}{reason}")
        if not isinstance(part, LocalVolumeStatus) and Path(part.log).exists():
            lines.append(f"  its log: {part.log}")
    return lines or [style.bad("Not healthy.")]


def _state_text(part: LocalPart) -> str:
    if part.reason == MISSING:
        return "is missing (run `pulumi up` to create it)"
    if isinstance(part, LocalVolumeStatus):
        return "is not usable"
    if isinstance(part, LocalJobStatus):
        return "failed (`mlops run` runs it again)"
    if part.state == "missing":
        return "is not known to the supervisor (run `pulumi up` to start it)"
    return f"is {part.state}"
