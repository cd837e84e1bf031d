"""`mlops:mlflow:ModelVersion` against a real MLflow server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from pulumi_mlops.cli.checks_models import served_versions
from pulumi_mlops.plugin.errors import GoneError, ResourceError
from pulumi_mlops.plugin.handler import Context
from pulumi_mlops.plugin.model_version import ModelVersionHandler
from pulumi_mlops.plugin.values import UNKNOWN

from .provider_fixtures import Log, make_context, problems

HANDLER = ModelVersionHandler()
MLFLOW = Path(sys.executable).with_name("mlflow")


@dataclass(frozen=True)
class Registry:
    """A server with `penguins` 1 to 3, `many` 1 to 21 and `bare` without a version."""

    uri: str

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        with httpx.Client(trust_env=False, timeout=60) as client:
            answer = client.post(f"{self.uri}/api/2.0/mlflow/{path}", json=body)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
            return found

    def delete(self, name: str, version: str) -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            client.request(
                "DELETE",
                f"{self.uri}/api/2.0/mlflow/model-versions/delete",
                json={"name": name, "version": version},
            ).raise_for_status()

    def register(self, name: str, count: int) -> None:
        for number in range(1, count + 1):
            source = f"s3://mlflow/1/models/{name}-{number}/artifacts"
            self.post("model-versions/create", name=name, source=source)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(MLFLOW, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
                *("--artifacts-destination", str(folder / "artifacts")),
            ],
            cwd=folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    found = Registry(f"http://127.0.0.1:{port}")
    try:
        with httpx.Client(trust_env=False) as client:
            while True:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                try:
                    if client.get(f"{found.uri}/health").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
        for name, count in {"penguins": 3, "many": 21, "bare": 0}.items():
            found.post("registered-models/create", name=name)
            found.register(name, count)
        yield found
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the server and its worker; nothing is kept
        process.wait()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def ctx(tmp_path: Path, log: Log) -> Context:
    return make_context(tmp_path, HANDLER.token, "champion", log=log)


@pytest.fixture
def nobody() -> Iterator[str]:
    """A port that is taken and refuses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def inputs(uri: Any, model: Any, version: Any, **more: Any) -> Any:
    plain = {"trackingUri": uri, "model": model, "version": version, **more}
    return HANDLER.inputs.model_validate(plain)


OUTPUTS = {
    "uri": "models:/penguins/2",
    "source": "s3://mlflow/1/models/penguins-2/artifacts",
    "runId": "",
    "modelId": "",
    "example": "",
    "requirements": [],
    "python": "",
}
NOT_IN_RECORD = {"example", "requirements", "python"}
RECORD = {name: value for name, value in OUTPUTS.items() if name not in NOT_IN_RECORD}


@pytest.mark.parametrize(
    ("change", "where", "told"),
    [
        ({"version": "latest"}, "version", "number in quotes"),
        ({"version": "²"}, "version", "number in quotes"),
        ({"version": ""}, "version", "number in quotes"),
        ({"model": "a/b"}, "model", "contains / or :"),
        ({"model": " "}, "model", "name of a registered model"),
        ({"trackingUri": "sqlite:///mlflow.db"}, "trackingUri", "http://host:port"),
        ({"username": "u"}, "password", "set both"),
    ],
)
def test_broken_inputs_are_told(
    ctx: Context, change: dict[str, str], where: str, told: str
) -> None:
    good = {"trackingUri": "http://127.0.0.1:5000", "model": "penguins", "version": "7"}
    assert problems(HANDLER, ctx, **good) == []
    [(found, what)] = problems(HANDLER, ctx, **good | change)
    assert found == where
    assert told in what


def test_what_is_not_known_yet_is_not_checked(ctx: Context) -> None:
    names = ["trackingUri", "model", "version", "username", "password", "after"]
    assert problems(HANDLER, ctx, **dict.fromkeys(names, UNKNOWN)) == []


def test_life(registry: Registry, ctx: Context) -> None:
    new = inputs(registry.uri, "penguins", "2")
    assert HANDLER.preview(ctx, new, None) == OUTPUTS
    resource_id, outputs = HANDLER.create(ctx, new)
    assert resource_id == "penguins/2"
    assert outputs == OUTPUTS
    state = {"trackingUri": registry.uri, "model": "penguins", "version": "2", **outputs}
    assert HANDLER.read(ctx, resource_id, state) == RECORD
    assert HANDLER.update(ctx, resource_id, state, new) == OUTPUTS
    HANDLER.delete(ctx, resource_id, state)
    assert HANDLER.read(ctx, resource_id, state) == RECORD  # a registered version is data


def test_what_happens_to_a_version_later_is_no_drift(registry: Registry, ctx: Context) -> None:
    new = inputs(registry.uri, "penguins", "3")
    _, outputs = HANDLER.create(ctx, new)
    registry.post("model-versions/set-tag", name="penguins", version="3", key="a", value="b")
    registry.post("registered-models/alias", name="penguins", alias="champion", version="3")
    state = {"trackingUri": registry.uri, "model": "penguins", "version": "3", **outputs}
    for name in NOT_IN_RECORD:
        del outputs[name]
    assert HANDLER.read(ctx, "penguins/3", state) == outputs


def test_a_version_that_is_gone(registry: Registry, ctx: Context, log: Log) -> None:
    registry.post("registered-models/create", name="gone")
    registry.register("gone", 1)
    new = inputs(registry.uri, "gone", "1")
    _, outputs = HANDLER.create(ctx, new)
    registry.delete("gone", "1")
    state = {"trackingUri": registry.uri, "model": "gone", "version": "1", **outputs}
    # It is deployed, and its servers use files that were fetched before.
    assert HANDLER.read(ctx, "gone/1", state) == {}
    assert HANDLER.update(ctx, "gone/1", state, new) == outputs
    for line in log.of("warning"):
        assert line.startswith(
            'gone version "1" is deployed, but no longer registered: its servers'
        )
        # Whether there is a copy is not known here. After an upgrade there is none.
        assert "only from files that were fetched before" in line
    assert len(log.of("warning")) == 2
    with pytest.raises(ResourceError, match="no version of it is registered"):
        HANDLER.create(ctx, new)


def test_what_is_registered_is_told(registry: Registry, ctx: Context) -> None:
    with pytest.raises(ResourceError) as caught:
        HANDLER.create(ctx, inputs(registry.uri, "penguins", "7"))
    told = 'penguins has no version "7". Its registered versions: 1, 2, 3. Correct the traffic'
    assert str(caught.value).startswith(told)
    with pytest.raises(
        ResourceError, match=r"Its newest registered versions: 2, 3, 4, .*, 20, 21\. "
    ):
        HANDLER.create(ctx, inputs(registry.uri, "many", "22"))
    with pytest.raises(ResourceError, match=r"no version of it is registered\. Run the pipeline"):
        HANDLER.create(ctx, inputs(registry.uri, "bare", "1"))
    for name in ("pinguins", "o'neill"):
        with pytest.raises(ResourceError, match=f"no registered model {name} .*bare, .*penguins"):
            HANDLER.create(ctx, inputs(registry.uri, name, "1"))


def test_preview_refuses_what_is_not_registered(registry: Registry, ctx: Context) -> None:
    with pytest.raises(ResourceError, match="Its registered versions: 1, 2, 3"):
        HANDLER.preview(ctx, inputs(registry.uri, "penguins", "7"), None)


@pytest.mark.parametrize("after", [UNKNOWN, {"run": UNKNOWN}, [UNKNOWN]])
def test_preview_waits_for_what_registers_it(registry: Registry, ctx: Context, after: Any) -> None:
    assert HANDLER.preview(ctx, inputs(registry.uri, "penguins", "7", after=after), None) == {}


def test_preview_of_a_server_that_is_yet_to_be(ctx: Context, log: Log) -> None:
    old = {"model": "penguins", "version": "2", **OUTPUTS}
    assert HANDLER.preview(ctx, inputs(UNKNOWN, "penguins", "2"), None) == {}
    assert HANDLER.preview(ctx, inputs(UNKNOWN, "penguins", "2"), old) == OUTPUTS
    assert HANDLER.preview(ctx, inputs(UNKNOWN, "penguins", "3"), old) == {}
    assert log.lines == []


def test_a_server_that_is_down(ctx: Context, log: Log, nobody: str) -> None:
    new = inputs(nobody, "penguins", "2")
    assert HANDLER.preview(ctx, new, None) == {}
    assert f"not checked at preview: no MLflow server answers at {nobody}" in log.of("warning")[0]
    state = {"trackingUri": nobody, "model": "penguins", "version": "2", **OUTPUTS}
    assert HANDLER.read(ctx, "penguins/2", state) == {}
    assert "the recorded state is kept" in log.of("warning")[1]
    with pytest.raises(ResourceError, match=r"\(.*refused\): start it, or correct trackingUri"):
        HANDLER.create(ctx, new)


def test_import(
    registry: Registry, ctx: Context, monkeypatch: pytest.MonkeyPatch, nobody: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ResourceError, match="set MLFLOW_TRACKING_URI"):
        HANDLER.read(ctx, "penguins/2", {})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    named = {"trackingUri": registry.uri, "model": "penguins", "version": "2"}
    assert HANDLER.read(ctx, "penguins/2", {}) == {**named, **RECORD}
    assert HANDLER.read(ctx, "penguins/9", {}) is None
    for wrong in ("penguins", "/2", "penguins/x"):
        with pytest.raises(ResourceError, match="<model>/<version>"):
            HANDLER.read(ctx, wrong, {})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nobody)
    with pytest.raises(ResourceError, match="no MLflow server answers"):
        HANDLER.read(ctx, "penguins/2", {})


# -- what a real server does not do on demand --------------------------------------------------


_NOT_AUTHENTICATED = (
    "You are not authenticated. Please see "
    "https://www.mlflow.org/docs/latest/auth/index.html#authenticating-to-mlflow "
    "on how to authenticate."
)


@dataclass
class Canned:
    """A server with one answer for all questions; it keeps the last question's credentials.

    Where it has `users`, it is MLflow's basic-auth app to everybody else.
    """

    status: int = 200
    body: str = ""
    authorization: str | None = None
    uri: str = ""
    users: tuple[str, ...] = ()


@pytest.fixture
def canned() -> Iterator[Canned]:
    answer = Canned()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer.authorization = self.headers["Authorization"]
            known = not answer.users or answer.authorization in answer.users
            self.send_response(answer.status if known else 401)
            self.end_headers()
            self.wfile.write((answer.body if known else _NOT_AUTHENTICATED).encode())

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Answer)
    answer.uri = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield answer
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (403, "Permission denied", r"to u: set a user who may read .*\(403: Permission denied\)"),
        (403, "Invalid Host header\nmore", r"--allowed-hosts.*\(403: Invalid Host header\)"),
        (404, "<html>nothing here", r"is not an MLflow server.*\(404: <html>nothing here\)"),
        (200, "<html>a proxy's login page", "is not an MLflow server"),
        (200, "[]", "is not an MLflow server"),
        (503, "", r"\(503: empty response\)"),
    ],
)
def test_answers_of_something_else(
    canned: Canned, ctx: Context, log: Log, status: int, body: str, told: str
) -> None:
    canned.status, canned.body = status, body
    new = inputs(canned.uri, "penguins", "2", username="u", password="the-secret")
    with pytest.raises(ResourceError, match=told) as caught:
        HANDLER.create(ctx, new)
    assert HANDLER.preview(ctx, new, None) == {}
    assert len(log.of("warning")) == 1
    assert "the-secret" not in str(caught.value) + str(log.lines)


def test_a_version_that_is_not_ready(canned: Canned, ctx: Context) -> None:
    canned.body = (
        '{"model_version": {"name": "penguins", "version": "2", "status": "FAILED_REGISTRATION",'
        ' "status_message": "copy failed"}}'
    )
    with pytest.raises(ResourceError, match=r"FAILED_REGISTRATION \(copy failed\), not READY"):
        HANDLER.create(ctx, inputs(canned.uri, "penguins", "2", username="u", password="p"))
    assert canned.authorization == "Basic dTpw"


READY = '{"model_version": {"name": "penguins", "version": "2", "status": "READY"}}'


def test_a_server_that_asks_for_a_user(canned: Canned, ctx: Context, log: Log) -> None:
    canned.body, canned.users = READY, ("Basic YWRtaW46dGhlLXNlY3JldA==",)
    new = inputs(canned.uri, "penguins", "2", username="admin", password="the-secret")
    assert HANDLER.preview(ctx, new, None)["uri"] == "models:/penguins/2"
    resource_id, outputs = HANDLER.create(ctx, new)
    state = {**new.model_dump(by_alias=True), **outputs}
    found = HANDLER.read(ctx, resource_id, state)
    assert found is not None
    assert found["uri"] == "models:/penguins/2"
    assert log.lines == []
    assert "the-secret" not in str(outputs) + str(found)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {},
            r"requires authentication: set the inputs username and password \(401: You",
        ),
        (
            {"username": "admin", "password": "an-old-one"},
            r"refused the user name admin or its password: correct .*\(401: You are not auth",
        ),
    ],
)
def test_a_server_that_knows_nobody_of_that_name(
    canned: Canned, ctx: Context, log: Log, given: dict[str, str], told: str
) -> None:
    canned.body, canned.users = READY, ("Basic YWRtaW46dGhlLXNlY3JldA==",)
    new = inputs(canned.uri, "penguins", "2", **given)
    with pytest.raises(ResourceError, match=told) as caught:
        HANDLER.create(ctx, new)
    assert "an-old-one" not in str(caught.value)
    # A server that is about to be given users, or other ones, is no reason to stop a preview.
    assert HANDLER.preview(ctx, new, None) == {}
    state = {**new.model_dump(by_alias=True), **OUTPUTS}
    assert HANDLER.read(ctx, "penguins/2", state) == {}
    assert ["not checked at preview" in line for line in log.of("warning")] == [True, False]


def test_doctor_names_versions_that_are_served_and_no_longer_registered(
    registry: Registry, nobody: str
) -> None:
    served = {("penguins", "1"), ("penguins", "2")}
    (found,) = served_versions(served, {}, registry.uri)
    assert (found.verdict, found.message) == ("ok", "2 served, all are registered")
    (found,) = served_versions(served | {("penguins", "99"), ("rose", "1")}, {}, registry.uri)
    assert found.verdict == "warn"
    assert "no longer registered: penguins version 99, rose version 1" in found.message
    (found,) = served_versions(served, {}, nobody)
    assert (found.verdict, found.message[:11]) == ("warn", "not checked")
    assert served_versions((), {}, "")[0].verdict == "ok"


def test_a_version_is_gone_with_its_registry(ctx: Context) -> None:
    """As in a namespace that somebody deleted."""

    def reach(url: str) -> str:
        raise GoneError("there is no Service tracking in team")

    state = {"trackingUri": "http://tracking.team.svc:5000", "model": "m", "version": "1"}
    assert HANDLER.read(replace(ctx, reach=reach), "m/1", state) is None


@pytest.mark.parametrize("name", ["it's", 'a "b"', 'it\'s "b"', "100% #1?", "Größe 模型🐧"])
def test_names_with_any_character_are_looked_up(
    ctx: Context, registry: Registry, name: str
) -> None:
    registry.post("registered-models/create", name=name)
    registry.register(name, 1)
    resource_id, outputs = HANDLER.create(ctx, inputs(registry.uri, name, "1"))
    assert resource_id == f"{name}/1"
    assert outputs["uri"] == f"models:/{name}/1"
    with pytest.raises(ResourceError, match=r'has no version "2"\. Its registered version: 1'):
        HANDLER.create(ctx, inputs(registry.uri, name, "2"))
