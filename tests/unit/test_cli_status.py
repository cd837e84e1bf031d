"""`mlops status` over real programs: a supervisord, HTTP servers and a proxy."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pulumi_mlops.cli import main
from pulumi_mlops.runtime.router import haproxy
from pulumi_mlops.stackdir import StackDir
from pulumi_mlops.targets.local.host import jobs
from pulumi_mlops.targets.local.host.router import RouteDefinition, Router
from pulumi_mlops.targets.local.host.supervisor import Supervisor
from pulumi_mlops.targets.local.operations import volumes
from pulumi_mlops.targets.local.operations.condition import examine

from .cli_fixtures import SECRET, job, kill_supervisor, made_stack, server, started, until
from .provider_fixtures import make_context


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StackDir]:
    monkeypatch.chdir(tmp_path)
    for name in ("PULUMI_STACK", "STACK"):
        monkeypatch.delenv(name, raising=False)
    with made_stack(tmp_path) as root:
        yield root


def _status(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["status", "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_what_is_healthy(root: StackDir, capsys: pytest.CaptureFixture[str]) -> None:
    program = started(root, server(root, "p-tracking-server-0"))
    job(root, "p-pipeline-job", "print('hello')")
    jobs.run(root, "p-pipeline-job", lambda line: None, threading.Event())
    (root.folder("volumes", "p-data") / "rows").write_bytes(b"x" * 50_000)
    code, found = _status(capsys)
    assert (code, found["healthy"], found["stack"]) == (0, True, "dev")
    assert found["supervisor"]["running"]
    (one,) = found["programs"]
    assert (one["name"], one["state"], one["restarts"]) == ("p-tracking-server-0", "ready", 0)
    assert program.health is not None
    assert one["urls"] == {"http": f"http://127.0.0.1:{program.health['port']}"}
    assert one["memory_bytes"] > 2**20
    assert one["uptime_seconds"] >= 0
    assert Path(one["log"]).exists()
    (run,) = found["jobs"]
    assert (run["state"], run["exit_code"]) == ("succeeded", 0)
    (volume,) = found["volumes"]
    assert volume["name"] == "p-data"
    assert volume["bytes"] >= 50_000
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    assert "Everything is healthy" in shown
    assert one["urls"]["http"] in shown
    assert SECRET not in shown + json.dumps(found)
    assert "\033" not in shown


def test_a_program_that_runs_but_does_not_answer_well(
    root: StackDir, capsys: pytest.CaptureFixture[str]
) -> None:
    program = started(root, server(root, "p-server-0"))
    (program.cwd / "ill").touch()
    code, found = _status(capsys)
    assert (code, found["healthy"]) == (1, False)
    assert (found["programs"][0]["state"], found["programs"][0]["reason"]) == (
        "not ready", "/health answers 503",
    )  # fmt: skip
    assert main(["status"]) == 1
    shown = capsys.readouterr().out
    assert "/health answers 503" in shown
    assert str(program.log) in shown


def test_restarts_are_counted(root: StackDir, capsys: pytest.CaptureFixture[str]) -> None:
    started(root, server(root, "p-server-0"))
    until(lambda: Supervisor(root).states() == {"p-server-0": "RUNNING"})
    pid = int(Supervisor(root).infos()["p-server-0"]["pid"])
    os.kill(pid, signal.SIGKILL)
    until(lambda: Supervisor(root).infos()["p-server-0"]["pid"] not in (0, pid))
    assert _status(capsys)[1]["programs"][0]["restarts"] == 1


def test_a_supervisor_that_was_killed(root: StackDir, capsys: pytest.CaptureFixture[str]) -> None:
    started(root, server(root, "p-server-0"))
    kill_supervisor(root)
    code, found = _status(capsys)
    assert code == 1
    assert found["supervisor"] == {"running": False, "pid": None}
    assert found["programs"][0]["state"] == "missing"
    assert main(["status"]) == 1
    assert (
        "The supervisor is not running: run `pulumi up` or `mlops service start`"
        in capsys.readouterr().out
    )


def test_a_route_shows_its_shares_and_what_is_down(
    root: StackDir, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = {}
    for name in ("v1", "v2"):
        program = started(root, server(root, f"p-endpoint-{name}.1-0"))
        assert program.health is not None
        ports[name] = program.health["port"]
    weights = {"v1": 90, "v2": 10}
    services = {
        name: haproxy.ProxyBackend(weights[name], (f"127.0.0.1:{port}",), "/health")
        for name, port in ports.items()
    }
    ctx = make_context(root.path.parents[1], "mlops:local:Route", "p-endpoint-route")
    assert ctx.root == root
    route = Router(ctx, ctx.name)
    try:
        url = route.begin(RouteDefinition("p-endpoint", None, 30, services))["url"]
        (shown,) = [part for part in examine(root).programs if part.name.endswith(".route")]
        assert (shown.healthy, shown.state, shown.reason) == (True, "ready", "v1 90 %, v2 10 %")
        assert shown.urls["http"] == url
        Supervisor(root).stop("p-endpoint-v2.1-0")
        until(lambda: not examine(root).healthy)
        code, found = _status(capsys)
        (ill,) = [part for part in found["programs"] if not part["healthy"]]
        assert code == 1
        assert ill["name"] == "p-endpoint-route.route"
        assert ill["state"] == "not ready", "no server of a version that gets requests is left"
        assert ill["reason"] == (
            f"v2 at 127.0.0.1:{ports['v2']} does not answer (traffic: v1 90 %, v2 10 %)"
        )
    finally:
        route.remove()


@pytest.mark.parametrize(
    ("code", "reason"),
    [("raise SystemExit(7)", "exit code 7"), ("import time; time.sleep(99)", "")],
)
def test_a_run_that_failed_or_was_cut_off(
    root: StackDir, code: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job(root, "p-job", code)
    if reason:
        jobs.run(root, "p-job", lambda line: None, threading.Event())
    else:
        runner = subprocess.Popen([sys.executable, "-m", "pulumi_mlops.cli", "run", "p-job"])
        until(lambda: jobs.is_running(root, "p-job"))
        assert _status(capsys)[1]["jobs"][0]["state"] == "running"
        runner.kill()
        runner.wait()
        until(lambda: not jobs.is_running(root, "p-job"))
    status, found = _status(capsys)
    assert (status, found["jobs"][0]["state"]) == (1, "failed")
    assert found["jobs"][0]["reason"] == (reason or "it was killed")
    assert main(["status"]) == 1
    assert "p-job failed" in capsys.readouterr().out


def test_a_job_that_never_ran_is_no_illness(
    root: StackDir, capsys: pytest.CaptureFixture[str]
) -> None:
    job(root, "p-job", "pass")
    code, found = _status(capsys)
    assert (code, found["jobs"][0]["state"]) == (0, "not run")


def test_another_health_check_restarts_nothing(root: StackDir) -> None:
    program = started(root, server(root, "p-server-0"))
    pid = Supervisor(root).infos()["p-server-0"]["pid"]
    assert program.health is not None
    changed = {**program.health, "path": "/other"}
    Supervisor(root).start(server(root, "p-server-0", health=changed))
    assert Supervisor(root).infos()["p-server-0"]["pid"] == pid
    known = Supervisor(root).definition("p-server-0")
    assert known is not None
    assert known.health == changed


def _recorded(root: StackDir, result: str, *resources: dict[str, Any]) -> None:
    """A file backend of the checkout with one update."""
    backend = root.path.parent / "state" / ".pulumi"
    state = backend / "stacks" / "test" / "dev.json"
    history = backend / "history" / "test" / "dev"
    for folder in (state.parent, history):
        folder.mkdir(parents=True, exist_ok=True)
    state.write_text(json.dumps({"checkpoint": {"latest": {"resources": list(resources)}}}))
    for number, (kind, ended) in enumerate([("update", "succeeded"), ("update", result)]):
        entry = {"kind": kind, "result": ended, "endTime": 1_700_000_000 + number}
        (history / f"dev-170000000{number}.history.json").write_text(json.dumps(entry))
    (history / "dev-1700000005.history.json").write_text('{"kind": "refresh", "result": "failed"}')
    (history / "dev-1700000009.history.json").touch()  # cut off


@pytest.fixture
def no_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULUMI_BACKEND_URL", raising=False)
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))


@pytest.mark.usefixtures("no_backend")
def test_parts_of_the_state_that_are_missing(
    root: StackDir, capsys: pytest.CaptureFixture[str]
) -> None:
    started(root, server(root, "web-0"))
    _recorded(
        root, "succeeded",
        {"type": "mlops:local:Process", "id": "web", "inputs": {"replicas": 2}},
        {"type": "mlops:local:Process", "id": "old.1", "inputs": {}, "delete": True},
        {"type": "mlops:local:Route", "id": "web-route"},
        {"type": "mlops:local:Run", "id": "train"},
        {"type": "mlops:local:Volume", "id": "data"},
        {"type": "mlops:local:Secret", "id": "key"},
    )  # fmt: skip
    code, found = _status(capsys)
    assert (code, found["healthy"]) == (1, False)
    assert found["update_failed"] is None
    states = {part["name"]: part["state"] for part in (*found["programs"], *found["jobs"])}
    assert states == {
        "web-0": "ready", "web-1": "missing", "web-route.route": "missing", "train": "missing",
    }  # fmt: skip
    assert [each["name"] for each in found["volumes"] if not each["healthy"]] == ["data"]
    assert main(["status"]) == 1
    shown = capsys.readouterr().out
    assert "Everything is healthy" not in shown
    for name in ("web-1", "web-route.route", "train", "data"):
        assert f"{name} is missing (run `pulumi up` to create it)" in shown


@pytest.mark.usefixtures("no_backend")
@pytest.mark.parametrize("with_program", [True, False])
def test_an_update_that_failed(
    root: StackDir, capsys: pytest.CaptureFixture[str], with_program: bool
) -> None:
    """What it did not create is not in the state."""
    if with_program:
        started(root, server(root, "web-0"))
    _recorded(root, "failed")
    code, found = _status(capsys)
    assert (code, found["healthy"], found["update_failed"]) == (1, False, 1_700_000_001)
    assert main(["status"]) == 1
    shown = capsys.readouterr().out
    assert "Everything is healthy" not in shown
    assert "The last update failed " in shown and "Run `pulumi up`" in shown
    _recorded(root, "succeeded")
    if with_program:
        assert _status(capsys)[0] == 0


@pytest.mark.usefixtures("no_backend")
def test_a_backend_that_is_not_on_this_machine(
    root: StackDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started(root, server(root, "web-0"))
    _recorded(root, "failed")
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://state")
    assert _status(capsys)[0] == 0


def test_a_disk_that_is_full(
    root: StackDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The health checks of the store and of the tracking server still pass."""
    started(root, server(root, "store-0"))
    root.folder("volumes", "store-data")
    assert _status(capsys)[0] == 0

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(volumes.os, "fsync", full)
        code, found = _status(capsys)
        assert code == 1
        assert found["volumes"][0]["reason"] == (
            "nothing can be written to it: No space left on device"
        )
    usage = shutil.disk_usage(root.path)._replace(total=10**12, free=9 * 10**9)
    monkeypatch.setattr(volumes.shutil, "disk_usage", lambda _: usage)
    assert main(["status"]) == 1
    assert "store-data is not usable: its disk is full: " in capsys.readouterr().out


def test_a_program_whose_process_is_stopped(
    root: StackDir, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stopped PostgreSQL accepts connections and answers nothing."""
    program = server(root, "database-0")
    started(root, replace(program, health={"port": (program.health or {})["port"]}))
    pid = Supervisor(root).infos()["database-0"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        code, found = _status(capsys)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert code == 1
    assert found["programs"][0]["reason"] == (
        f"its process is stopped (kill -CONT {pid} continues it)"
    )
