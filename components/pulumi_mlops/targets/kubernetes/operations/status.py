"""`mlops status` for the Kubernetes target."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from ....cli.selection import Stack
from ....cli.terminal import Style, ago, duration, marked, table
from ....plugin.errors import ResourceError
from ..api import explain
from ..api.client import ClusterApi
from .condition import ClusterJobStatus, ClusterStatus, RouteStatus, WorkloadStatus, examine
from .inventory import KINDS, Inventory, connect, list_objects


def run(stack: Stack, *, as_json: bool) -> int:
    """Show the status of a stack. Returns 1 if something is not healthy."""
    api = connect(stack)
    # Clusters without the Gateway API do not have the kind HTTPRoute.
    inventory = list_objects(
        api, stack, (*KINDS, "HTTPRoute") if stack.settings.get("gateway") else KINDS
    )
    status = examine(api, inventory)
    if as_json:
        print(json.dumps(json_form(stack, api, status), indent=1))
    else:
        style = Style(sys.stdout)
        lines = [
            *render(stack, api, status, style),
            *explain_unhealthy(api, inventory, status, style),
        ]
        print("\n".join(lines))
    return 0 if status.healthy else 1


def json_form(stack: Stack, api: ClusterApi, status: ClusterStatus) -> dict[str, object]:
    """The output of `--json`."""
    return {
        "stack": stack.name,
        "namespace": api.where.namespace,
        "context": api.where.context,
        "healthy": status.healthy,
        "programs": [asdict(part) for part in status.programs],
        "routes": [asdict(part) for part in status.routes],
        "jobs": [asdict(part) for part in status.jobs],
        "schedules": [asdict(part) for part in status.schedules],
        "volumes": [asdict(part) for part in status.volumes],
    }


def render(stack: Stack, api: ClusterApi, status: ClusterStatus, style: Style) -> list[str]:
    """The tables of the text output."""
    where = f"namespace {api.where.namespace}"
    where += f" of context {api.where.context}" if api.where.context else ""
    lines = [f"{style.title(stack.name)}  {style.quiet(where)}"]
    if status.programs:
        lines += ["", *_programs(status.programs, style)]
    if status.routes:
        lines += ["", *_routes(status.routes, style)]
    if status.jobs:
        lines += ["", *_jobs(status.jobs, style)]
    if status.schedules:
        rows = [[each.name, each.cron, each.timezone, ago(each.last)] for each in status.schedules]
        heads = ["SCHEDULE", "CRON", "TIME ZONE", "LAST STARTED"]
        lines += ["", *(f"  {line}" for line in table(heads, rows, style))]
    if status.volumes:
        rows = [[each.name, each.state, each.size, each.storage_class] for each in status.volumes]
        heads = ["VOLUME", "STATE", "SIZE", "STORAGE CLASS"]
        lines += ["", *(f"  {line}" for line in table(heads, rows, style))]
    return lines


def explain_unhealthy(
    api: ClusterApi, inventory: Inventory, status: ClusterStatus, style: Style
) -> list[str]:
    """What is not healthy, with reason, events and log lines; or that everything is healthy."""
    if not (status.programs or status.jobs):
        return ["", "Nothing is running here: run `pulumi up` to provision it."]
    if status.healthy:
        message = "Everything is healthy."
        addresses = "The URLs are valid inside the cluster: `mlops connect` opens tunnels to them."
        return ["", style.good(message), style.quiet(addresses)]
    lines = [""]
    for part in status.unhealthy:
        if isinstance(part, RouteStatus):
            lines.append(f"{style.bad(part.name)} is {part.state}: {part.reason}")
            continue
        pods = [
            pod for pod in inventory.pods(part.name) if "deletionTimestamp" not in pod["metadata"]
        ]
        state = f"is {part.state}"
        if isinstance(part, ClusterJobStatus):
            state, pods = "failed (`mlops run` runs it again)", pods[-1:]
        try:
            details = explain.pods(api, pods)
        except ResourceError as error:
            details = str(error)
        lines.append(
            f"{style.bad(part.name)} {state}" + (f": {part.reason}" if part.reason else "")
        )
        lines += [f"  {line}" for line in details.splitlines()]
    return lines


def _programs(programs: list[WorkloadStatus], style: Style) -> list[str]:
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


def _routes(routes: list[RouteStatus], style: Style) -> list[str]:
    rows = [
        [part.name, part.state, part.host,
         ", ".join(f"{weight} {service}" for service, weight in part.traffic.items())]
        for part in routes
    ]  # fmt: skip
    lines = table(["ROUTE", "STATE", "HOST", "WEIGHTS"], rows, style)
    return marked(lines, [part.healthy for part in routes], style)


def _jobs(jobs: list[ClusterJobStatus], style: Style) -> list[str]:
    rows = [
        [
            part.name,
            part.state,
            ago(part.started),
            duration(part.seconds) if part.seconds is not None else "",
            part.image,
            part.reason if part.healthy else "",
        ]
        for part in jobs
    ]
    heads = ["JOB", "LAST RUN", "STARTED", "TOOK", "IMAGE", ""]
    return marked(table(heads, rows, style), [part.healthy for part in jobs], style)
