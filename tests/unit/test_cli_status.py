"""`mlops status` over real programs: a supervisord, HTTP servers and a proxy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
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
from pulumi_mlops.targets.local.operations.condition import examine

from .cli_fixtures import SECRET, job, made_stack, server, started, until
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
    pid = Supervisor(root).pid()
    assert pid is not None
    psutil.Process(pid).kill()
    until(lambda: Supervisor(root).pid() is None)
    code, found = _status(capsys)
    assert code == 1
    assert found["supervisor"] == {"running": False, "pid": None}
    assert found["programs"][0]["state"] == "missing"
    assert main(["status"]) == 1
    assert "The supervisor is not running: run `pulumi up`" in capsys.readouterr().out


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
