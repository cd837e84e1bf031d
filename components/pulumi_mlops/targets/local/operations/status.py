"""`mlops status`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from ....cli.selection import Stack
from ....cli.terminal import Style, ago, duration, marked, size, table
from .condition import (
    Condition,
    JobCondition,
    ProgramCondition,
    VolumeCondition,
    examine,
)


def run(stack: Stack, *, as_json: bool) -> int:
    """Show how everything of a stack is; 1 when something is not healthy."""
    found = examine(stack.root)
    if as_json:
        print(json.dumps(json_form(stack, found), indent=1))
    else:
        print("\n".join(render(stack, found, Style(sys.stdout))))
    return 0 if found.healthy else 1


def json_form(stack: Stack, found: Condition) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "stack": stack.name,
        "path": str(stack.root.path),
        "healthy": found.healthy,
        "supervisor": {"running": found.supervisor_pid is not None, "pid": found.supervisor_pid},
        "programs": [asdict(part) for part in found.programs],
        "jobs": [asdict(part) for part in found.jobs],
        "volumes": [asdict(part) for part in found.volumes],
    }


def render(stack: Stack, found: Condition, style: Style) -> list[str]:
    """The lines for people."""
    lines = [f"{style.title(stack.name)}  {style.quiet(str(stack.root.path))}"]
    if found.supervisor_pid is None and found.programs:
        lines += ["", style.bad("The supervisor is not running: run `pulumi up` to start it.")]
    if found.programs:
        lines += ["", *_programs(found.programs, style)]
    if found.jobs:
        lines += ["", *_jobs(found.jobs, style)]
    if found.volumes:
        lines += ["", *_volumes(found.volumes, style)]
    if not (found.programs or found.jobs):
        return [*lines, "", "Nothing is running here: run `pulumi up` to provision it."]
    return [*lines, "", *_ill(found, style)]


def _programs(programs: list[ProgramCondition], style: Style) -> list[str]:
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


def _jobs(found: list[JobCondition], style: Style) -> list[str]:
    rows = [
        [
            part.name,
            part.state,
            ago(part.started),
            duration(part.seconds) if part.seconds is not None else "",
        ]
        for part in found
    ]
    heads = ["JOB", "LAST RUN", "STARTED", "TOOK"]
    return marked(table(heads, rows, style), [part.healthy for part in found], style)


def _volumes(volumes: list[VolumeCondition], style: Style) -> list[str]:
    rows = [[part.name, size(part.bytes), part.path] for part in volumes]
    return [f"  {line}" for line in table(["VOLUME", "SIZE", "PATH"], rows, style)]


def _ill(found: Condition, style: Style) -> list[str]:
    """What is not healthy, why, and where to read on; or that all is."""
    if found.healthy:
        return [style.good("All is healthy.")]
    lines = []
    for part in found.ill:
        if found.supervisor_pid is None and isinstance(part, ProgramCondition):
            continue  # that none of the programs runs is said already
        reason = f": {part.reason}" if part.reason else ""
        lines.append(f"{style.bad(part.name)} {_is(part)}{reason}")
        if Path(part.log).exists():
            lines.append(f"  its log: {part.log}")
    return lines or [style.bad("Not healthy.")]


def _is(part: ProgramCondition | JobCondition) -> str:
    if isinstance(part, JobCondition):
        return "failed (`mlops run` runs it again)"
    if part.state == "missing":
        return "is not known to the supervisor (`pulumi up` puts that right)"
    return f"is {part.state}"
