"""`mlops doctor`."""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ..provider.local.stackdir import StackDir
from . import checks_engine, checks_machine, checks_stack
from .checks import Check, Checker, guarded, ok, warn
from .selection import (
    ClusterStack,
    Stack,
    UsageError,
    data_folder,
    find_target,
    named_stack,
    project_folder,
)
from .terminal import Style

_WIDTH = len("disk space in /tmp")


def run(options: argparse.Namespace) -> int:
    """Check everything; 1 when something is wrong."""
    project = project_folder(options.project)
    name = named_stack(options.stack)
    checks, stack = _stack(project, name)
    if isinstance(stack, ClusterStack):
        from .cluster import checks as cluster_checks  # noqa: PLC0415 - only with a cluster

        plan = {**general(project, stack.name), **cluster_checks.checkers(stack)}
    else:
        base = stack.root.path.parent if stack else data_folder(project, name or "")
        plan = checkers(project, base, name, stack.root if stack else None)
    style = Style(sys.stdout)
    if not options.json:
        _show(checks, style)
    # Most of them wait for a program to answer.
    with ThreadPoolExecutor(max_workers=8) as pool:
        for found in pool.map(lambda item: guarded(*item), plan.items()):
            checks += found
            if not options.json:
                _show(found, style)
    bad = [check for check in checks if check.verdict == "wrong"]
    if options.json:
        found_all = [asdict(check) for check in checks]
        print(json.dumps({"healthy": not bad, "checks": found_all}, indent=1))
    else:
        warned = sum(check.verdict == "warn" for check in checks)
        print(_summary(len(bad), warned, style))
    return 1 if bad else 0


def general(project: Path, name: str | None) -> dict[str, Checker]:
    """What is checked wherever a stack runs."""
    return {
        "system": checks_machine.system,
        "Python": checks_machine.python,
        "engine": checks_engine.engine,
        "back end": partial(checks_engine.backend, project, name),
        "plugin": partial(checks_engine.plugin, project),
    }


def checkers(
    project: Path, base: Path, name: str | None, root: StackDir | None
) -> dict[str, Checker]:
    """What is checked, by what it is called where the check itself fails."""
    plan: dict[str, Checker] = {
        **general(project, name),
        "package index": checks_machine.index,
        "HAProxy": checks_machine.haproxy,
        "disk space": partial(checks_machine.disk, base),
    }
    if root is not None:
        plan |= {
            "supervisor": partial(checks_stack.supervisor, root),
            "sockets": partial(checks_stack.sockets, root),
            "ports": partial(checks_stack.own_ports, root),
        }
    return plan | {"port claims": checks_stack.claims, "leftovers": checks_stack.leftovers}


def _stack(project: Path, name: str | None) -> tuple[list[Check], Stack | ClusterStack | None]:
    """The stack, which need not be there for the machine to be checked."""
    try:
        stack = find_target(project, name)
    except UsageError as error:
        return [warn("stack", str(error), "only what does not depend on it is checked")], None
    if isinstance(stack, ClusterStack):
        namespace = stack.settings.get("namespace", "mlops")
        return [ok("stack", f"{stack.name} (on a cluster, namespace {namespace})")], stack
    return [ok("stack", f"{stack.name} ({stack.root.path})")], stack


def _show(checks: list[Check], style: Style) -> None:
    marks = {"ok": style.good("ok   "), "warn": style.unsure("warn "), "wrong": style.bad("wrong")}
    for check in checks:
        print(f"{marks[check.verdict]}  {check.name:<{_WIDTH}}  {check.message}")
        if check.fix:
            print(f"{'':<{_WIDTH + 9}}{style.title('fix:')} {check.fix}")
    sys.stdout.flush()


def _summary(wrong: int, warned: int, style: Style) -> str:
    told = [
        text
        for count, text in (
            (wrong, style.bad(f"{wrong} wrong")),
            (warned, style.unsure(f"{warned} {'warning' if warned == 1 else 'warnings'}")),
        )
        if count
    ]
    return "\n" + (", ".join(told) if told else style.good("All is well."))
