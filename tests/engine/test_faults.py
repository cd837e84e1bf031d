"""What is killed comes back, what is interrupted converges, and nothing is there twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import light
import pytest
from faults import (
    UP,
    clean_tmp,
    kill_engine_and_plugin,
    kill_supervisor_and_guard,
    reboot,
    supervisor,
    whole,
)
from platform_project import Change, Project, Stack, until

pytestmark = pytest.mark.engine


@pytest.fixture
def fresh(project: Callable[..., Any]) -> Stack:
    """A stack of its own, not up yet."""
    return light.make(project)


@pytest.fixture(scope="module")
def shared(engine: None, places: Path) -> Iterator[Stack]:
    stack = light.make(partial(Project, places / "shared by faults"))
    yield stack
    stack.project.destroy()
    assert not stack.leftovers()


@pytest.fixture
def stack(shared: Stack) -> Stack:
    """A stack that is up as it should be, whatever the test before did to it."""
    shared.configure({})
    shared.up()
    return shared


def test_what_is_killed_comes_back_by_itself(stack: Stack) -> None:
    outputs = stack.outputs()
    note = light.tell(outputs["store"])
    for name, (pid,) in stack.programs().items():
        os.kill(pid, signal.SIGKILL)
        until(lambda name=name, pid=pid: stack.programs().get(name, [pid]) != [pid], name)
        until(lambda: _answers(outputs["route"]) and _answers(outputs["store"]), name)
    assert whole(stack) == outputs
    assert note in light.ask(outputs["store"])["notes"]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_a_killed_supervisor_comes_back_by_itself(stack: Stack) -> None:
    outputs = stack.outputs()
    note = light.tell(outputs["store"])
    killed = supervisor(stack)
    killed.kill()
    killed.wait()
    until(lambda: set(stack.programs()) and not stack.changes())
    assert whole(stack) == outputs
    assert note in light.ask(outputs["store"])["notes"]
    assert supervisor(stack) != killed


def test_the_next_update_brings_back_a_killed_supervisor(stack: Stack) -> None:
    outputs = stack.outputs()
    note = light.tell(outputs["store"])
    kill_supervisor_and_guard(stack)
    down = Change("update", frozenset({"status"}))
    assert stack.changes() == dict.fromkeys(UP, down)
    stack.up()
    assert whole(stack) == outputs
    assert note in light.ask(outputs["store"])["notes"]


def test_a_cleaned_tmp_makes_no_doubles(stack: Stack) -> None:
    outputs = stack.outputs()
    note = light.tell(outputs["store"])
    clean_tmp(stack)
    stack.up()
    assert whole(stack) == outputs
    assert note in light.ask(outputs["store"])["notes"]
    assert supervisor(stack)


def test_a_reboot_loses_nothing(stack: Stack) -> None:
    outputs = stack.outputs()
    note = light.tell(outputs["store"])
    reboot(stack)
    stack.up("--refresh")
    assert whole(stack) == outputs
    assert note in light.ask(outputs["store"])["notes"]


@pytest.mark.parametrize("moment", ["Process store updating", "waiting for store-0"])
def test_an_update_that_is_killed_in_the_middle_of_a_change_converges(
    stack: Stack, moment: str
) -> None:
    note = light.tell(stack.outputs()["store"])
    stack.configure({"app:store": "2"})
    running = stack.start("up", "--yes", "--skip-preview")
    assert running.reached(moment)
    kill_engine_and_plugin(running)
    running.wait()
    stack.end_language_hosts()
    if stack.locked():
        stack.cancel()
    stack.up()
    outputs = whole(stack)
    answer = light.ask(outputs["store"])
    assert answer["version"] == "2"
    assert note in answer["notes"]


@pytest.mark.parametrize(
    ("broken", "seconds", "told"),
    [("crash", "60", "does not stay up"), ("unhealthy", "3", "broken on purpose")],
)
def test_a_change_that_does_not_become_ready_is_taken_back(
    stack: Stack, broken: str, seconds: str, told: str
) -> None:
    outputs = stack.outputs()
    note = light.tell(outputs["store"])
    stack.configure({"app:store": "2", "app:broken": broken, "app:timeout": seconds})
    output = stack.up(expect_success=False)
    assert told in output
    assert "Its last log lines" in output
    until(lambda: _answers(outputs["store"]))
    answer = light.ask(outputs["store"])
    assert answer["version"] == "1"
    assert note in answer["notes"]
    assert light.names(stack) == UP

    stack.configure({"app:store": "3"})
    stack.up()
    answer = light.ask(whole(stack)["store"])
    assert answer["version"] == "3"
    assert note in answer["notes"]


def test_two_stacks_side_by_side_share_nothing(stack: Stack) -> None:
    other = stack.project.stack("other")
    other.up()
    both = stack, other
    assert not set(stack.ports().values()) & set(other.ports().values())
    pids = [{process.pid for process in each.processes()} for each in both]
    assert not pids[0] & pids[1]
    outputs = [whole(each) for each in both]
    light.tell(outputs[0]["store"])
    assert light.ask(outputs[1]["store"])["notes"] == []
    other.destroy()
    assert not other.leftovers()
    assert whole(stack) == outputs[0]
    assert {process.pid for process in stack.processes()} == pids[0]


def test_what_is_to_be_kept_is_kept(fresh: Stack) -> None:
    stack = fresh
    stack.configure({"app:retain": "true"})
    stack.up()
    note = light.tell(stack.outputs()["store"])
    root = stack.root.path
    key = (root / "secrets" / "key").read_text()
    output = stack.destroy()
    assert f"data is retained in {root / 'volumes' / 'data'}" in output
    assert f"the secret is retained in {root / 'secrets' / 'key'}" in output
    assert stack.leftovers() == [str(root / "secrets" / "key"), str(root / "volumes/data/notes")]
    assert key not in output

    stack.up()
    assert light.ask(whole(stack)["store"])["notes"] == [note]
    assert (root / "secrets" / "key").read_text() == key
    stack.configure({"app:retain": "false"})
    stack.up()
    stack.destroy()
    assert not stack.leftovers()


SCHEDULE = """
import pulumi
from pathlib import Path
from pulumi_mlops import sources
from pulumi_mlops.targets.port import EnvironmentSpec, JobSpec, ScheduleSpec, resolve

target, nothing = resolve(), pulumi.ResourceOptions()
environment = target.environment("environment", EnvironmentSpec(
    requirements=[], code={".": Path(sources.find_project() / "app")}), nothing)
job = target.job("job", JobSpec(
    command=["python", "job.py"], environment=environment, run_on_change=False), nothing)
service = target.schedule("schedule", ScheduleSpec(job=job, cron="* * * * *"), nothing)
pulumi.export("url", service.url)
"""


def test_a_schedule_runs_its_job(project: Callable[..., Any]) -> None:
    stack = light.make(project, SCHEDULE)
    stack.up()
    url = stack.outputs()["url"]

    def runs() -> str:
        return httpx.get(f"{url}/metrics", trust_env=False).text

    assert 'outcome="succeeded"} 0' in runs()
    until(lambda: 'outcome="succeeded"} 1' in runs(), "the run of the next minute")
    assert (stack.root.path / "logs" / "job.log").read_text() == "training\n"
    stack.destroy()
    assert not stack.leftovers()
