"""`mlops status` of a cluster."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from ....cli.selection import Stack
from ....cli.terminal import Style, ago, duration, marked, table
from ....plugin.errors import ResourceError
from ..api import explain
from ..api.client import ClusterApi
from .condition import Condition, JobCondition, RouteCondition, WorkloadCondition, examine
from .inventory import KINDS, Inventory, connect, take


def run(stack: Stack, *, as_json: bool) -> int:
    """Show how everything of a stack is; 1 when something is not healthy."""
    api = connect(stack)
    # Clusters without the Gateway API have no such kind.
    taken = take(api, stack, (*KINDS, "HTTPRoute") if stack.settings.get("gateway") else KINDS)
    found = examine(api, taken)
    if as_json:
        print(json.dumps(json_form(stack, api, found), indent=1))
    else:
        style = Style(sys.stdout)
        lines = [*render(stack, api, found, style), *ill(api, taken, found, style)]
        print("\n".join(lines))
    return 0 if found.healthy else 1


def json_form(stack: Stack, api: ClusterApi, found: Condition) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "stack": stack.name,
        "namespace": api.where.namespace,
        "context": api.where.context,
        "healthy": found.healthy,
        "programs": [asdict(part) for part in found.programs],
        "routes": [asdict(part) for part in found.routes],
        "jobs": [asdict(part) for part in found.jobs],
        "schedules": [asdict(part) for part in found.schedules],
        "volumes": [asdict(part) for part in found.volumes],
    }


def render(stack: Stack, api: ClusterApi, found: Condition, style: Style) -> list[str]:
    """The tables for people."""
    where = f"namespace {api.where.namespace}"
    where += f" of context {api.where.context}" if api.where.context else ""
    lines = [f"{style.title(stack.name)}  {style.quiet(where)}"]
    if found.programs:
        lines += ["", *_programs(found.programs, style)]
    if found.routes:
        lines += ["", *_routes(found.routes, style)]
    if found.jobs:
        lines += ["", *_jobs(found.jobs, style)]
    if found.schedules:
        rows = [[each.name, each.cron, each.timezone, ago(each.last)] for each in found.schedules]
        heads = ["SCHEDULE", "CRON", "TIME ZONE", "LAST STARTED"]
        lines += ["", *(f"  {line}" for line in table(heads, rows, style))]
    if found.volumes:
        rows = [[each.name, each.state, each.size, each.storage_class] for each in found.volumes]
        heads = ["VOLUME", "STATE", "SIZE", "STORAGE CLASS"]
        lines += ["", *(f"  {line}" for line in table(heads, rows, style))]
    return lines


def ill(api: ClusterApi, taken: Inventory, found: Condition, style: Style) -> list[str]:
    """What is not healthy and why, with the last events and log lines; or that all is."""
    if not (found.programs or found.jobs):
        return ["", "Nothing is running here: run `pulumi up` to provision it."]
    if found.healthy:
        told = "All is healthy."
        addresses = "The addresses are the cluster's own: `mlops connect` opens tunnels to them."
        return ["", style.good(told), style.quiet(addresses)]
    lines = [""]
    for part in found.ill:
        if isinstance(part, RouteCondition):
            lines.append(f"{style.bad(part.name)} is {part.state}: {part.reason}")
            continue
        pods = [pod for pod in taken.pods(part.name) if "deletionTimestamp" not in pod["metadata"]]
        is_ = f"is {part.state}"
        if isinstance(part, JobCondition):
            is_, pods = "failed (`mlops run` runs it again)", pods[-1:]
        try:
            details = explain.pods(api, pods)
        except ResourceError as error:
            details = str(error)
        lines.append(f"{style.bad(part.name)} {is_}" + (f": {part.reason}" if part.reason else ""))
        lines += [f"  {line}" for line in details.splitlines()]
    return lines


def _programs(programs: list[WorkloadCondition], style: Style) -> list[str]:
    rows = [
        [
            part.name,
            part.state,
            f"{part.ready}/{part.wanted}",
            str(part.restarts),
            duration(part.age_seconds),
            part.image,
            part.urls.get("http") or next(iter(part.urls.values()), ""),
        ]
        for part in programs
    ]
    heads = ["PROGRAM", "STATE", "READY", "RESTARTS", "AGE", "IMAGE", "URL IN THE CLUSTER"]
    return marked(table(heads, rows, style), [part.healthy for part in programs], style)


def _routes(found: list[RouteCondition], style: Style) -> list[str]:
    rows = [
        [part.name, part.state, part.host,
         ", ".join(f"{weight} {service}" for service, weight in part.traffic.items())]
        for part in found
    ]  # fmt: skip
    lines = table(["ROUTE", "STATE", "HOST", "WEIGHTS"], rows, style)
    return marked(lines, [part.healthy for part in found], style)


def _jobs(found: list[JobCondition], style: Style) -> list[str]:
    rows = [
        [
            part.name,
            part.state,
            ago(part.started),
            duration(part.seconds) if part.seconds is not None else "",
            part.image,
            part.reason if part.healthy else "",
        ]
        for part in found
    ]
    heads = ["JOB", "LAST RUN", "STARTED", "TOOK", "IMAGE", ""]
    return marked(table(heads, rows, style), [part.healthy for part in found], style)
