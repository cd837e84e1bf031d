"""What tests of faults share: checks, kills, a reboot."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import light
import psutil
from platform_project import Running, Stack, belonging_to, claims, until

from pulumi_mlops.targets.local.host import guard

UP = {"store", "model-v1", "model-v2", "route"}


def whole(stack: Stack) -> dict[str, Any]:
    """The outputs of a stack that is up as it should be: nothing missing, double or left over."""
    stack.preview("--expect-no-changes")
    outputs = stack.outputs()
    assert light.names(stack) == UP
    assert light.ask(outputs["store"])["key"] is True
    assert light.ask(outputs["route"])["version"] == "1"
    assert outputs["run"] == {"accuracy": 0.5}
    owners = {owner.split("/")[0] for owner in stack.ports()}
    assert owners == set(stack.programs())
    root = stack.root.path
    assert {entry.name for entry in (root / "programs").iterdir()} == set(stack.programs())
    assert len(list((root / "envs").iterdir())) == 1
    assert {entry.name for entry in (root / "secrets").iterdir()} == {"key"}
    assert not [each for each in belonging_to(stack.project.folder) if is_plugin(each)]
    return outputs


def is_plugin(process: psutil.Process) -> bool:
    try:
        return any("pulumi-resource-mlops" in word for word in process.cmdline())
    except psutil.Error:
        return False


def kill_engine_and_plugin(running: Running) -> None:
    helpers = running.helpers()
    running.process.kill()
    for helper in helpers:
        if is_plugin(helper):
            helper.kill()


def supervisor(stack: Stack) -> psutil.Process:
    (found,) = (each for each in stack.processes() if "supervisor.supervisord" in each.cmdline())
    return found


def kill_supervisor_and_guard(stack: Stack) -> None:
    """Kill both at once: each alone is brought back by the other."""
    guards = [each for each in stack.processes() if each.cmdline()[3:4] == [guard.__file__]]
    for process in (*guards, supervisor(stack)):
        process.kill()
    psutil.wait_procs(guards)


def reboot(stack: Stack) -> None:
    """What a reboot leaves: no process, and of /tmp nothing."""
    kill_supervisor_and_guard(stack)
    for process in stack.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    until(lambda: not stack.processes())
    clean_tmp(stack)


def clean_tmp(stack: Stack) -> None:
    """Remove what a stack has in /tmp."""
    shutil.rmtree(Path("/tmp") / f"mlops-{os.getuid()}-{stack.root.key}")
    for port in claims(stack.root.path).values():
        (Path("/tmp") / f"mlops-{os.getuid()}-ports" / str(port)).unlink()
