"""MLflow's command becomes the server that it starts: one process, and signals reach it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from pulumi_mlops.tracking import _host_settings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.engine
def test_the_server_is_the_process_that_was_started(tmp_path: Path) -> None:
    port = free_port()
    env = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/database.sqlite",
        "MLFLOW_ARTIFACTS_DESTINATION": str(tmp_path / "artifacts"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **{
            key: value.replace("$(HOST_NAMES)", "127.0.0.1:*")
            for key, value in _host_settings(["mlflow.example.com"]).items()
        },
    }
    command = [sys.executable, "-m", "pulumi_mlops.runtime.tracking_server", "server"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    log = tmp_path / "log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=output, stderr=output)
    try:
        _wait(f"http://127.0.0.1:{port}/health", server, log)
        # What MLflow's command tells its server: the database of the command's environment.
        found = httpx.get(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get?experiment_id=0"
        ).json()
        assert found["experiment"]["artifact_location"] == "mlflow-artifacts:/0"
        assert psutil.Process(server.pid).children(recursive=True) == []
        _check_hosts(port)
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        assert "Application shutdown complete" in log.read_text()
    finally:
        server.kill()
        server.wait()


def _check_hosts(port: int) -> None:
    """Requests and pages of the public name are accepted, behind an ingress with TLS too."""
    url = f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/search"
    public = "https://mlflow.example.com"
    for host, origin, status in (
        ("mlflow.example.com", public, 200),
        ("mlflow.example.com:8443", f"{public}:8443", 200),
        ("other.example.com", public, 403),
        ("mlflow.example.com", "https://other.example.com", 403),
    ):
        headers = {"host": host, "origin": origin}
        answer = httpx.post(url, json={"max_results": 1}, headers=headers, trust_env=False)
        assert answer.status_code == status, (host, origin, answer.text)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(log.read_text())
