"""Runs of a killed job do not stay RUNNING on the tracking server. Against a real MLflow server."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.runtime.tracking_runs import close_runs, with_job_tag
from pulumi_mlops.stackdir import StackDir
from pulumi_mlops.targets.local.host import jobs

from .cli_fixtures import made_stack, until
from .test_model_version import Registry, registry

__all__ = ["registry"]

# MLflow takes seconds to import, so the job sends what `mlflow.start_run` would.
JOB = """
import json, os, signal, sys, time, urllib.request

def post(path, **body):
    request = urllib.request.Request(
        os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/" + path, json.dumps(body).encode(),
        {"content-type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return json.load(opener.open(request))

tags = json.loads(os.environ["MLFLOW_RUN_CONTEXT"])
run = post("runs/create", experiment_id="0",
           tags=[{"key": key, "value": value} for key, value in tags.items()])
print(run["run"]["info"]["run_id"], flush=True)
end = sys.argv[1]
if end == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if end == "wait":
    time.sleep(600)
if end == "finish":
    post("runs/update", run_id=run["run"]["info"]["run_id"], status="FINISHED")
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[StackDir]:
    with made_stack(tmp_path) as root:
        yield root


def define(root: StackDir, server: Registry, end: str, seconds: float = 600) -> None:
    env = {"MLFLOW_TRACKING_URI": server.uri, "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", JOB, end]
    jobs.define(root, jobs.Job("train", command, env, root.folder("jobs", "train"), seconds))


def run(root: StackDir, cancelled: threading.Event | None = None) -> list[str]:
    lines: list[str] = []
    jobs.run(root, "train", lines.append, cancelled or threading.Event())
    return lines


def status(server: Registry, run_id: str) -> Any:
    found = server.post("runs/search", experiment_ids=["0"], max_results=1000)
    (info,) = [each["info"] for each in found["runs"] if each["info"]["run_id"] == run_id]
    return info["status"]


def test_a_job_that_is_killed(root: StackDir, registry: Registry) -> None:
    other = registry.post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
    define(root, registry, "kill")
    run_id, line = run(root)
    assert line == "1 MLflow run set to KILLED"
    assert status(registry, run_id) == "KILLED"
    assert status(registry, other) == "RUNNING", "it is not of this job"


def test_a_job_that_ends_by_itself(root: StackDir, registry: Registry) -> None:
    define(root, registry, "finish")
    (run_id,) = run(root)
    assert status(registry, run_id) == "FINISHED"


def test_a_job_that_takes_too_long(root: StackDir, registry: Registry) -> None:
    define(root, registry, "wait", seconds=5)
    lines: list[str] = []
    with pytest.raises(ResourceError, match="not done after 5 s"):
        jobs.run(root, "train", lines.append, threading.Event())
    assert status(registry, lines[0]) == "KILLED"


def test_a_job_whose_runner_is_killed_too(root: StackDir, registry: Registry) -> None:
    """The next run closes what the previous one left."""
    define(root, registry, "wait")
    code = (
        "import sys, threading; from pathlib import Path\n"
        "from pulumi_mlops.stackdir import StackDir\n"
        "from pulumi_mlops.targets.local.host import jobs\n"
        "jobs.run(StackDir(Path(sys.argv[1])), 'train', print, threading.Event())"
    )
    runner = psutil.Popen([sys.executable, "-c", code, str(root.path)])
    log = jobs.log_of(root, "train")
    until(lambda: log.exists() and log.read_text().strip())
    run_id = log.read_text().strip()
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    until(lambda: not jobs.is_running(root, "train"))
    assert status(registry, run_id) == "RUNNING"
    define(root, registry, "finish")
    lines = run(root)
    assert lines[0] == "1 MLflow run set to KILLED"
    assert status(registry, run_id) == "KILLED"


def test_a_server_that_does_not_answer_is_no_error(root: StackDir) -> None:
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    env = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "PATH": "/usr/bin:/bin"}
    jobs.define(root, jobs.Job("train", command, env, root.folder("jobs", "train"), 60))
    assert run(root) == ["open MLflow runs could not be closed: ConnectError"]


def test_tags_of_the_user_are_kept() -> None:
    env = {"MLFLOW_TRACKING_URI": "http://x", "MLFLOW_RUN_CONTEXT": '{"team": "ml"}'}
    assert json.loads(with_job_tag(env, "dev/train")["MLFLOW_RUN_CONTEXT"]) == {
        "team": "ml", "mlops.job": "dev/train",
    }  # fmt: skip
    assert with_job_tag({"A": "1"}, "dev/train") == {"A": "1"}
    invalid = env | {"MLFLOW_RUN_CONTEXT": "team"}
    assert with_job_tag(invalid, "dev/train") == invalid
    assert close_runs({"MLFLOW_TRACKING_URI": "sqlite:///x"}, "dev/train") == 0
