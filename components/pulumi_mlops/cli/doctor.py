"""`mlops doctor`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ..targets import registry
from . import checks_engine, checks_machine
from .checks import Checker, Finding, guarded, ok, warn, wrong
from .selection import Stack, UsageError, find_stack, named_stack, project_folder
from .terminal import Style

_WIDTH = len("disk space in /tmp")


def run(options: argparse.Namespace) -> int:
    """Run all checks; 1 if something is wrong."""
    project = project_folder(options.project)
    name = named_stack(options.stack)
    checks, stack = _stack(project, name)
    plan = checkers(project, name, stack, options.caller)
    style = Style(sys.stdout)
    if not options.json:
        _show(checks, style)
    # Most checks wait for another program.
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


def checkers(
    project: Path, name: str | None, stack: Stack | None, caller: Mapping[str, str]
) -> dict[str, Checker]:
    """The checks by title: those of every target, then those of the stack's own.

    `caller` is the environment of the shell.
    """
    target = registry.DEFAULT if stack is None else stack.target
    return {
        "Python": checks_machine.python,
        "engine": checks_engine.engine,
        "proxy": partial(checks_engine.proxy, caller),
        "backend": partial(checks_engine.backend, project, stack.name if stack else name),
        "plugin": partial(checks_engine.plugin, project),
        **registry.load(target).operations().doctor(project, name, stack),
    }


def _stack(project: Path, name: str | None) -> tuple[list[Finding], Stack | None]:
    """The stack. The machine is checked without one, too."""
    try:
        stack = find_stack(project, name)
    except UsageError as error:
        return [warn("stack", str(error), "the checks of an environment are left out")], None
    try:
        registry.load(stack.target)
    except registry.UnknownTargetError as error:
        return [wrong("stack", f"{stack.name}: {error}", "correct mlops:target")], None
    return [ok("stack", f"{stack.name} (target {stack.target}, {stack.files})")], stack


def _show(checks: list[Finding], style: Style) -> None:
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
    return "\n" + (", ".join(told) if told else style.good("Everything works."))
