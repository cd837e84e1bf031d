"""The model server as a process: readiness, health beside a long prediction, drain, the log."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pyarrow.dataset as ds
import pytest

from pulumi_mlops import runtime

from . import model_server_fixtures as fixtures
from .model_server_fixtures import environment, server, wait_ready

CLIENTS = 8


def slow_request(seconds: float) -> dict[str, object]:
    return {"dataframe_records": [{"seconds": seconds}]}


def test_a_long_prediction_blocks_no_health_check_and_survives_sigterm(tmp_path):
    """Drain: not ready at once, still serving for a while, then what is in flight is finished."""
    model = fixtures.save_slow(tmp_path / "model")
    env = environment(
        model, MLOPS_DRAIN_SECONDS="1", MLOPS_PREDICTION_LOG=str(tmp_path / "predictions")
    )
    with server(tmp_path, env) as running, ThreadPoolExecutor() as pool:
        wait_ready(running)

        def call(seconds: float) -> httpx.Response:
            return httpx.post(f"{running.url}/invocations", json=slow_request(seconds), timeout=60)

        long = pool.submit(call, 4.0)
        while not long.done():
            text = httpx.get(f"{running.url}/metrics").text
            if re.search(r"^mlops_inference_in_progress\{.*\} 1\.0$", text, re.MULTILINE):
                break
        assert httpx.get(f"{running.url}/v2/health/ready").status_code == 200
        assert not long.done()  # health answered while the prediction runs
        running.process.send_signal(signal.SIGTERM)
        answer = httpx.get(f"{running.url}/v2/models/iris/ready")
        while answer.status_code == 200:
            answer = httpx.get(f"{running.url}/v2/models/iris/ready")
        assert answer.json()["error"] == "the server is stopping"
        assert answer.headers["connection"] == "close"
        assert not long.done()
        assert long.result().json() == {"predictions": [4.0]}
        assert running.process.wait() == 0
    table = ds.dataset(tmp_path / "predictions", format="parquet", partitioning=None).to_table()
    assert table["outputs"].to_pylist() == ["[4.0]"]


def test_a_request_whose_client_left_is_not_predicted(tmp_path):
    model = fixtures.save_slow(tmp_path / "model")
    env = environment(model, MLOPS_PREDICTION_LOG=str(tmp_path / "predictions"))
    with server(tmp_path, env) as running, ThreadPoolExecutor() as pool:
        wait_ready(running)
        httpx.post(f"{running.url}/invocations", json=slow_request(0.0))

        def in_progress(count: int) -> None:
            pattern = rf"^mlops_inference_in_progress\{{.*\}} {count}\.0$"
            while not re.search(pattern, httpx.get(f"{running.url}/metrics").text, re.MULTILINE):
                time.sleep(0.02)

        def call(seconds: float, timeout: float = 60) -> httpx.Response:
            return httpx.post(
                f"{running.url}/invocations", json=slow_request(seconds), timeout=timeout
            )

        long = pool.submit(call, 3.0)
        in_progress(1)
        with pytest.raises(httpx.ReadTimeout):
            call(30.0, 0.5)
        in_progress(1)  # while the first is still predicted
        assert not long.done()
        assert call(0.5).status_code == 200
        assert 'reason="gone",version="7"} 1.0' in httpx.get(f"{running.url}/metrics").text
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait() == 0
    table = ds.dataset(tmp_path / "predictions", format="parquet", partitioning=None).to_table()
    assert sorted(table["outputs"].to_pylist()) == ["[0.0]", "[0.5]", "[3.0]"]


def test_a_request_that_waits_longer_than_the_limit_is_refused(tmp_path):
    env = environment(fixtures.save_slow(tmp_path / "model"), MLOPS_QUEUE_SECONDS="0.3")
    with server(tmp_path, env) as running, ThreadPoolExecutor() as pool:
        wait_ready(running)

        def call(seconds: float) -> httpx.Response:
            return httpx.post(f"{running.url}/invocations", json=slow_request(seconds), timeout=60)

        long = pool.submit(call, 3.0)
        pattern = r"^mlops_inference_in_progress\{.*\} 1\.0$"
        while not re.search(pattern, httpx.get(f"{running.url}/metrics").text, re.MULTILINE):
            time.sleep(0.02)
        refused = call(0.0)
        assert not long.done()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "overloaded: waited" in refused.text
        assert long.result().status_code == 200


def test_answers_before_a_kill_are_in_the_log(tmp_path):
    model = fixtures.save_classifier(tmp_path / "model")
    env = environment(
        model,
        MLOPS_PREDICTION_LOG=str(tmp_path / "predictions"),
        MLOPS_PREDICTION_LOG_SPOOL=str(tmp_path / "spool"),
    )
    body = {"dataframe_split": {"columns": ["length", "width"], "data": [[1.0, 0.1]]}}
    with server(tmp_path, env) as running, httpx.Client() as http:
        wait_ready(running)
        answers = [http.post(f"{running.url}/invocations", json=body) for _ in range(20)]
        running.process.kill()
        running.process.wait()
    with server(tmp_path, env) as running:
        wait_ready(running)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait() == 0
    table = ds.dataset(tmp_path / "predictions", format="parquet", partitioning=None).to_table()
    expected = sorted(answer.headers["x-request-id"] for answer in answers)
    assert sorted(table["id"].to_pylist()) == expected


def test_sigterm_under_load_loses_no_request(tmp_path):
    """Clients that read readiness, as the proxy does, and stop sending when it fails."""
    model = fixtures.save_classifier(tmp_path / "model")
    env = environment(
        model, MLOPS_DRAIN_SECONDS="2", MLOPS_PREDICTION_LOG=str(tmp_path / "predictions")
    )
    body = {"dataframe_split": {"columns": ["length", "width"], "data": [[1.0, 0.1]]}}
    in_rotation = threading.Event()
    in_rotation.set()
    answers: list[tuple[int, str, str]] = []

    with server(tmp_path, env) as running:
        wait_ready(running)

        def client() -> None:
            with httpx.Client(timeout=60) as http:
                while in_rotation.is_set():
                    answer = http.post(f"{running.url}/invocations", json=body)
                    answers.append(
                        (
                            answer.status_code,
                            answer.headers["x-model-version"],
                            answer.headers["x-request-id"],
                        )
                    )

        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        while len(answers) < 100:
            time.sleep(0.01)
        running.process.send_signal(signal.SIGTERM)
        while httpx.get(f"{running.url}/v2/health/ready").status_code == 200:
            pass
        in_rotation.clear()
        for thread in threads:
            thread.join()
        assert running.process.wait() == 0
    assert {(code, version) for code, version, _ in answers} == {(200, "7")}
    table = ds.dataset(tmp_path / "predictions", format="parquet", partitioning=None).to_table()
    assert sorted(table["id"].to_pylist()) == sorted(identifier for _, _, identifier in answers)
    assert set(table["inputs"].to_pylist()) == {'{"length":[1.0],"width":[0.1]}'}
    assert set(table["outputs"].to_pylist()) == {'["small"]'}
    assert set(table["endpoint"].to_pylist()) == {"flowers"}


def test_a_server_whose_model_cannot_be_had_stays_up_and_says_why(tmp_path):
    with server(tmp_path, environment(str(tmp_path / "missing"))) as running:
        ready = f"{running.url}/v2/models/iris/ready"
        assert httpx.get(f"{running.url}/v2/health/live").status_code == 200
        answer = httpx.get(ready)
        while answer.json()["error"] == "the model is being loaded":
            time.sleep(0.05)
            answer = httpx.get(ready)
        assert answer.status_code == 503
        assert answer.json()["ready"] is False
        assert "missing" in answer.json()["error"]
        assert answer.json()["failed"] is False  # it may come yet: the server goes on trying
        assert "not ready: " in running.log.read_text()
        assert running.process.poll() is None
        running.process.send_signal(signal.SIGTERM)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait() == 0


def test_a_taken_port_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "pulumi_mlops.runtime.model_server"],
            env={**environment("/x"), "PORT": str(port)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == (
        f"model server: HOST, PORT: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    )


def test_it_runs_without_pulumi(tmp_path):
    """Deployed, the package is a bare folder with runtime/ in it: no __init__, no pulumi."""
    target = tmp_path / "pulumi_mlops" / "runtime"
    shutil.copytree(Path(runtime.__file__).parent, target)
    code = (
        "import sys; sys.path = [p for p in sys.path if 'components' not in p];"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()];"
        f"sys.path.insert(0, {str(tmp_path)!r}); sys.modules['pulumi'] = None;"
        "import pulumi_mlops.runtime.model_server.server as s;"
        "import pulumi_mlops.runtime.model_server.inference;"
        "print(s.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.stdout.strip() == str(target / "model_server" / "server.py"), done.stderr
