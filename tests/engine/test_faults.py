"""What is killed comes back, what is interrupted converges, and nothing is there twice."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import light
import psutil
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from platform_project import (
    DEV,
    INVOCATION,
    Change,
    Project,
    Running,
    Stack,
    belonging_to,
    claims,
    client,
    until,
)

pytestmark = pytest.mark.engine

UP = {"store", "model-v1", "model-v2", "route"}


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
    assert not [each for each in belonging_to(stack.project.folder) if _is_plugin(each)]
    return outputs


def _is_plugin(process: psutil.Process) -> bool:
    try:
        return any("pulumi-resource-mlops" in word for word in process.cmdline())
    except psutil.Error:
        return False


def kill_engine(running: Running) -> None:
    running.process.kill()


def kill_engine_and_plugin(running: Running) -> None:
    helpers = running.helpers()
    running.process.kill()
    for helper in helpers:
        if _is_plugin(helper):
            helper.kill()


@pytest.mark.parametrize(
    ("stop", "moments"),
    [
        (kill_engine_and_plugin, light.MOMENTS),
        # These let the plugin clean up, which takes time only where a program runs already.
        (kill_engine, light.SLOW_MOMENTS),
        (Running.interrupt, light.SLOW_MOMENTS),
    ],
    ids=["kill engine and plugin", "kill engine", "Ctrl-C"],
)
def test_an_update_that_is_stopped_in_the_middle_of_a_create_converges(
    fresh: Stack, stop: Callable[[Running], None], moments: Mapping[str, str]
) -> None:
    stack = fresh
    stopped = []
    for name, moment in moments.items():
        # A small thing may be there already: the update before was not stopped in time.
        if name in stack.resources():
            continue
        running = stack.start("up", "--yes", "--skip-preview")
        assert running.reached(moment), running.output()
        stop(running)
        running.wait()
        stopped.append(name)
        until(lambda: not [each for each in belonging_to(stack.project.folder) if _is_plugin(each)])
        stack.end_language_hosts()
        if stack.locked():
            stack.cancel()
    assert {"environment", "job", "store", "route"} <= set(stopped)
    stack.up()
    outputs = whole(stack)
    # The engine remembers what it was at until it is told that this has been taken care of.
    stack.pulumi("refresh", "--yes", "--skip-preview", "--clear-pending-creates")
    assert not stack.pending()
    assert whole(stack) == outputs
    stack.destroy()
    assert not stack.leftovers()


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


def test_the_next_update_brings_back_a_killed_supervisor(stack: Stack) -> None:
    outputs = stack.outputs()
    note = light.tell(outputs["store"])
    supervisor(stack).kill()
    down = Change("update", frozenset({"status"}))
    assert stack.changes() == dict.fromkeys(UP, down)
    stack.up()
    assert whole(stack) == outputs
    assert note in light.ask(outputs["store"])["notes"]


def test_the_platform_survives_the_end_of_each_process(platform: Stack, s3: Any) -> None:
    platform.apply(platform.applied or DEV)
    outputs = platform.outputs()
    s3.put_object(Bucket="artifacts", Key="survives.txt", Body=b"here")
    for name, pids in platform.programs().items():
        os.kill(pids[0], signal.SIGKILL)
        until(lambda name=name, pids=pids: pids[0] not in platform.programs().get(name, pids), name)
    until(lambda: as_before(outputs), "everything is back")


def as_before(outputs: dict[str, Any]) -> bool:
    """Whether model, registry, bucket and monitor answer as before."""
    endpoint = outputs["endpoints"]["penguins"]
    try:
        (version, *_) = endpoint["versions"]
        answer = httpx.post(f"{endpoint['url']}/invocations", json=INVOCATION, trust_env=False)
        assert answer.json()["predictions"] == ["Adelie"]
        found = httpx.get(
            f"{outputs['tracking_url']}/api/2.0/mlflow/model-versions/get",
            params={"name": "penguins", "version": version}, trust_env=False,
        )  # fmt: skip
        assert found.json()["model_version"]["status"] == "READY"
        body = client(outputs).get_object(Bucket="artifacts", Key="survives.txt")["Body"].read()
        assert body == b"here"
        return httpx.get(outputs["dashboard_url"], trust_env=False).is_success
    except (httpx.HTTPError, BotoCoreError, ClientError, KeyError, ValueError):
        return False


def test_the_platform_survives_a_reboot(platform: Stack, s3: Any) -> None:
    platform.apply(platform.applied or DEV)
    outputs = platform.outputs()
    s3.put_object(Bucket="artifacts", Key="survives.txt", Body=b"here")
    programs = set(platform.programs())
    reboot(platform)
    platform.up("--refresh")
    assert platform.outputs() == outputs
    assert set(platform.programs()) == programs
    assert until(lambda: as_before(outputs))
    platform.preview("--expect-no-changes")


def test_a_cleaned_tmp_makes_no_doubles(stack: Stack) -> None:
    outputs = stack.outputs()
    note = light.tell(outputs["store"])
    clean_tmp(stack)
    stack.up()
    assert whole(stack) == outputs
    assert note in light.ask(outputs["store"])["notes"]
    assert supervisor(stack)


def supervisor(stack: Stack) -> psutil.Process:
    (found,) = (each for each in stack.processes() if "supervisor.supervisord" in each.cmdline())
    return found


def reboot(stack: Stack) -> None:
    """What a reboot leaves: no process, and of /tmp nothing."""
    for process in (supervisor(stack), *stack.processes()):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    until(lambda: not stack.processes())
    clean_tmp(stack)


def clean_tmp(stack: Stack) -> None:
    """Remove what a stack has in /tmp."""
    shutil.rmtree(Path("/tmp") / f"mlops-{os.getuid()}-{stack.root.key}")
    for port in claims(stack.root.path).values():
        (Path("/tmp") / f"mlops-{os.getuid()}-ports" / str(port)).unlink()


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
    assert f"data is kept in {root / 'volumes' / 'data'}" in output
    assert f"the secret is kept in {root / 'secrets' / 'key'}" in output
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
