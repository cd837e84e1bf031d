"""Models logged by several versions of MLflow, each served with the requirements stored with it.

For each row, uv creates an environment with that version and with the libraries of its time, which
logs a model to a tracking server of the newest version. The plugin reads the requirements from its
registry and creates the environment of the model server, whose answers are compared.
`make test-mlflow` runs all rows and prints the table of docs/environments.md.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from moto.server import ThreadedMotoServer

from pulumi_mlops import runtime
from pulumi_mlops.plugin.handler import Context, Handler
from pulumi_mlops.plugin.model_version import ModelVersionHandler
from pulumi_mlops.requirements import read_requirements, with_model_server
from pulumi_mlops.runtime.s3.connection import connect
from pulumi_mlops.sources import digest
from pulumi_mlops.stackdir import StackDir
from pulumi_mlops.targets.local.host.uv import python_problem, search_environment, uv_bin
from pulumi_mlops.targets.local.resources.environment import EnvironmentHandler

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
RUNTIME = Path(runtime.__path__[0])
LOG_MODEL = Path(__file__).with_name("log_model.py")


@dataclass(frozen=True)
class Row:
    """A version of MLflow, a version of Python, and a day on which both were current."""

    mlflow: str
    python: str
    day: str
    server: str = ""
    """Another requirement of the model, which the model server has to accept."""

    def __str__(self) -> str:
        return f"mlflow-{self.mlflow}-python-{self.python}{'-oldest' if self.server else ''}"


_OLDEST_SERVER = (
    "uvicorn==0.23.0 uvloop==0.18.0 httptools==0.6.0 orjson==3.9.0 prometheus-client==0.18.0 "
    "pyarrow==10.0.1 boto3==1.26.0 pandas==1.5.3 pydantic<2 numpy<1.26"
)
ROWS = [
    Row("2.9.2", "3.10", "2023-12-15"),
    Row("2.12.2", "3.11", "2024-05-15"),
]
MORE_ROWS = [
    Row("2.9.2", "3.10", "2023-12-15", _OLDEST_SERVER),
    Row("2.9.2", "3.11", "2023-12-15"),
    Row("2.12.2", "3.10", "2024-05-15"),
    Row("2.16.2", "3.11", "2024-10-01"),
    Row("2.22.0", "3.10", "2025-05-01"),
    Row("2.22.0", "3.11", "2025-05-01"),
    Row("2.22.0", "3.12", "2025-05-01"),
    Row("3.0.1", "3.10", "2025-07-01"),
    Row("3.0.1", "3.12", "2025-07-01"),
    Row("3.10.1", "3.11", "2026-04-01"),
    Row("3.10.1", "3.12", "2026-04-01"),
    Row("3.17.2", "3.11", "2026-11-20"),
    Row("3.17.2", "3.12", "2026-11-20"),
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tracking server of the newest version."""
    folder = tmp_path_factory.mktemp("registry")
    port = free_port()
    arguments = [
        *("server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    command = [sys.executable, "-m", "pulumi_mlops.runtime.tracking_server", *arguments]
    env = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with program(command, folder, env, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """An S3 store with the bucket `log`."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    connect(url, region="us-east-1", key="k", secret="s").create_bucket(Bucket="log")
    yield url
    server.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


@contextmanager
def program(command: list[str], folder: Path, env: dict[str, str], url: str) -> Iterator[None]:
    """A program that runs until the end of the block, once `url` answers 200."""
    log = folder / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, cwd=folder, env={**clean(), **env}, stdout=stream, stderr=stream
        )
    try:
        with httpx.Client(trust_env=False) as client:
            while True:
                assert process.poll() is None, log.read_text()[-3000:]
                try:
                    answer = client.get(url)
                except httpx.TransportError:
                    time.sleep(0.1)
                    continue
                if answer.status_code == 200:
                    break
                assert not answer.json().get("failed"), (answer.text, log.read_text()[-3000:])
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


def clean() -> dict[str, str]:
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MLFLOW_", "MLOPS_", "VIRTUAL_ENV", "PYTHON"))
    }


def context(folder: Path, handler: Handler[Any]) -> Context:
    return Context(
        urn=f"urn:pulumi:test::mlops::{handler.token}::live",
        name="live",
        stack="test",
        project="mlops",
        root=StackDir(folder / "stack"),
        log=lambda *args, **kwargs: None,
        cancelled=threading.Event(),
    )


def log_model(row: Row, folder: Path, registry: str, name: str) -> dict[str, Any]:
    """Train and register a model with the libraries of `row.day`."""
    venv = folder / "training"
    env = {**search_environment(), **{"MLFLOW_TRACKING_URI": registry}}
    packages = [f"mlflow=={row.mlflow}", "scikit-learn", "setuptools<81"]
    for command in (
        [uv_bin(), "venv", "--quiet", "--python", row.python, str(venv)],
        [uv_bin(), "pip", "install", "--quiet", "--python", str(venv / "bin" / "python"),
         "--exclude-newer", row.day, *packages, *row.server.split()],
        [str(venv / "bin" / "python"), str(LOG_MODEL), name],
    ):  # fmt: skip
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(re.findall(r"^RESULT (.*)$", done.stdout, re.MULTILINE)[0])
    return found


def serving_environment(row: Row, folder: Path, registry: str, name: str) -> dict[str, Any]:
    """The environment that the plugin creates for version 1 of the model."""
    versions = ModelVersionHandler()
    _, stored = versions.create(
        context(folder, versions),
        versions.inputs.model_validate(
            {"trackingUri": registry, "model": name, "version": "1", "readRequirements": True}
        ),
    )
    assert f"mlflow=={row.mlflow}" in stored["requirements"]
    assert stored["python"] == row.python
    own = read_requirements("server", "requirements-model-server.txt", RUNTIME).lines
    environments = EnvironmentHandler()
    inputs = {
        "requirements": with_model_server([*stored["requirements"], *row.server.split()], own),
        "python": stored["python"],
        "code": {"pulumi_mlops/runtime": {"path": str(RUNTIME), "digest": digest(RUNTIME)}},
    }
    new = environments.inputs.model_validate(inputs)
    environments.preview(context(folder, environments), new, None)
    return environments.create(context(folder, environments), new)[1]


@pytest.mark.parametrize(
    "row",
    [
        *(pytest.param(row, id=str(row)) for row in ROWS),
        *(pytest.param(row, id=str(row), marks=pytest.mark.mlflow_versions) for row in MORE_ROWS),
    ],
)
def test_a_model_is_served_with_its_stored_requirements(
    row: Row, registry: str, store: str, tmp_path: Path, record_property: Any
) -> None:
    if problem := python_problem(row.python):
        pytest.skip(problem)
    name = str(row)
    started = time.monotonic()
    model = log_model(row, tmp_path, registry, name)
    logged = time.monotonic()
    environment = serving_environment(row, tmp_path, registry, name)
    installed = time.monotonic()
    port = free_port()
    env = {
        "PORT": str(port),
        "MLOPS_ENDPOINT": "live",
        "MLOPS_MODEL_NAME": name,
        "MLOPS_MODEL_VERSION": "1",
        "MLFLOW_TRACKING_URI": registry,
        "MLOPS_PREDICTION_LOG": f"s3://log/{name}",
        "AWS_ENDPOINT_URL": store,
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-east-1",
        "PYTHONPATH": environment["codePath"],
    }
    command = [f"{environment['path']}/bin/python", "-m", "pulumi_mlops.runtime.model_server"]
    url = f"http://127.0.0.1:{port}"
    base = f"{url}/v2/models/{name}"
    tensors = [
        {"name": column, "datatype": "FP64", "shape": [len(values)], "data": list(values)}
        for column, values in zip(model["columns"], zip(*model["rows"], strict=True), strict=True)
    ]
    split = {"columns": model["columns"], "data": model["rows"]}
    with (
        program(command, tmp_path, env, f"{base}/versions/1/ready"),
        httpx.Client(trust_env=False, timeout=60) as client,
    ):
        ready = time.monotonic()
        answer = client.post(f"{url}/invocations", json={"dataframe_split": split})
        assert answer.json() == {"predictions": model["predictions"]}
        answer = client.post(f"{base}/infer", json={"inputs": tensors})
        assert answer.json()["outputs"][0]["data"] == model["predictions"]
    bucket = connect(store, region="us-east-1", key="k", secret="s")
    assert bucket.list_objects_v2(Bucket="log", Prefix=f"{name}/endpoint=live/")["KeyCount"]
    assert "no golden request" not in (tmp_path / "log").read_text()
    packages = dict(line.split("==") for line in environment["packages"] if "==" in line)
    shown = " ".join(
        f"{key}={packages[key]}" for key in ("numpy", "pandas", "pyarrow", "scikit-learn")
    )
    record_property("table", f"| {row.mlflow} | {row.python} | {shown} |")
    print(
        f"\nTABLE | {row.mlflow} | {row.python} | {shown} | log {logged - started:.0f} s | "
        f"environment {installed - logged:.1f} s | ready {ready - installed:.1f} s |"
    )
