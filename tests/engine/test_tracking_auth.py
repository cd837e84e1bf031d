"""A tracking server that asks for a user, on the real engine: who gets in, and what shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from platform_project import Commands, Project, Stack, exposed, files_with

from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.plugin.handler import Context
from pulumi_mlops.plugin.model_version import ModelVersionHandler
from pulumi_mlops.stackdir import StackDir

pytestmark = pytest.mark.engine

PROGRAM = """
import pulumi
import pulumi_mlops as mlops

auth = pulumi.Config("app").require_bool("auth")
store = mlops.ArtifactStore("store", {"bucket": "artifacts", "retain": False})
tracking = mlops.TrackingServer(
    "tracking", {"artifact_store": store, "auth": auth, "retain": False}
)
pulumi.export("client_env", tracking.client_env)
"""
CLIENT = """
import json, mlflow
mlflow.set_experiment("by-the-admin")
with mlflow.start_run() as run:
    mlflow.log_metric("accuracy", 0.5)
    mlflow.log_text("hello", "note.txt")
    note = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/note.txt")
client = mlflow.MlflowClient()
client.create_registered_model("penguins")
client.create_model_version("penguins", run.info.artifact_uri, run.info.run_id)
print(json.dumps([run.info.run_id, note]))
"""
API = "/api/2.0/mlflow"
RUN = f"{API}/runs/get"


def status_of(env: dict[str, str], method: str, path: str, **body: Any) -> int:
    """What the server answers to a client with this environment."""
    user = env.get("MLFLOW_TRACKING_USERNAME")
    return httpx.request(
        method,
        f"{env['MLFLOW_TRACKING_URI']}{path}",
        json=body or None,
        auth=(user, env["MLFLOW_TRACKING_PASSWORD"]) if user else None,
        timeout=60,
        trust_env=False,
    ).status_code


def test_a_server_with_users(
    project: Callable[..., Project], commands: Commands, tmp_path: Path
) -> None:
    stack = project(PROGRAM, name="users").stack("dev", {"app:auth": True})
    stack.up()
    env = stack.outputs()["client_env"]
    assert set(env) == {
        "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD",
    }  # fmt: skip
    run_id = _credentials_open_it(env)
    _others_may_look_and_not_touch(env, run_id)
    _versions_are_found(env, tmp_path)
    _nothing_shows_the_password(stack, commands, env["MLFLOW_TRACKING_PASSWORD"])
    before = stack.programs()
    stack.up("--expect-no-changes")
    stack.pulumi("refresh", "--preview-only", "--expect-no-changes")
    assert stack.programs() == before

    # Without users and with them again there is another password, on the data of before.
    stack.apply({"app:auth": False})
    assert set(stack.outputs()["client_env"]) == {"MLFLOW_TRACKING_URI"}
    assert status_of(stack.outputs()["client_env"], "GET", f"{RUN}?run_id={run_id}") == 200
    stack.apply({"app:auth": True})
    again = stack.outputs()["client_env"]
    assert again["MLFLOW_TRACKING_PASSWORD"] != env["MLFLOW_TRACKING_PASSWORD"]
    assert status_of(again, "GET", f"{RUN}?run_id={run_id}") == 200
    assert status_of({**env, **_address(again)}, "GET", f"{RUN}?run_id={run_id}") == 401
    _nothing_shows_the_password(stack, commands, env["MLFLOW_TRACKING_PASSWORD"])

    stack.destroy()
    assert not stack.leftovers()


def _address(env: dict[str, str]) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": env["MLFLOW_TRACKING_URI"]}


def _credentials_open_it(env: dict[str, str]) -> str:
    """The id of the run that a client has logged."""
    search = f"{API}/experiments/search?max_results=1"
    for anybody in (_address(env), {**env, "MLFLOW_TRACKING_PASSWORD": "guessed-wrong"}):
        assert status_of(anybody, "GET", search) == 401
        assert status_of(anybody, "GET", "/") == 401
        assert status_of(anybody, "GET", "/api/2.0/mlflow-artifacts/artifacts") == 401
        assert status_of(anybody, "GET", "/health") == 200
    assert status_of(env, "GET", search) == 200
    done = subprocess.run(
        [sys.executable, "-c", CLIENT],
        env={"PATH": os.environ["PATH"], **env}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run_id, note = json.loads(done.stdout.splitlines()[-1])
    assert note == "hello"
    return str(run_id)


def _others_may_look_and_not_touch(env: dict[str, str], run_id: str) -> None:
    account = {"username": "ada", "password": "ada-has-a-password"}
    assert status_of(env, "POST", f"{API}/users/create", **account) == 200
    ada = {
        **_address(env),
        "MLFLOW_TRACKING_USERNAME": account["username"],
        "MLFLOW_TRACKING_PASSWORD": account["password"],
    }
    assert status_of(ada, "GET", f"{RUN}?run_id={run_id}") == 200
    metric = {"run_id": run_id, "key": "accuracy", "value": 1.0, "timestamp": 1}
    assert status_of(ada, "POST", f"{API}/runs/log-metric", **metric) == 403
    assert status_of(ada, "POST", f"{API}/experiments/create", name="by-ada") == 200
    assert status_of(ada, "POST", f"{API}/users/create", username="eve", password="x" * 20) == 403


def _versions_are_found(env: dict[str, str], folder: Path) -> None:
    handler = ModelVersionHandler()
    ctx = Context(
        urn="", name="v1", stack="dev", project="users", root=StackDir(folder),
        log=lambda *_, **__: None, cancelled=threading.Event(),
    )  # fmt: skip
    wanted = {"trackingUri": env["MLFLOW_TRACKING_URI"], "model": "penguins", "version": "1"}
    with pytest.raises(
        ResourceError, match="requires authentication: set the inputs username and password"
    ):
        handler.create(ctx, handler.inputs.model_validate(wanted))
    user = {
        "username": env["MLFLOW_TRACKING_USERNAME"],
        "password": env["MLFLOW_TRACKING_PASSWORD"],
    }
    made, outputs = handler.create(ctx, handler.inputs.model_validate({**wanted, **user}))
    assert (made, outputs["uri"]) == ("penguins/1", "models:/penguins/1")


def _nothing_shows_the_password(stack: Stack, commands: Commands, password: str) -> None:
    secrets = {file.read_text() for file in (stack.root.path / "secrets").iterdir()} | {password}
    assert not [command for command in commands.seen() if any(text in command for text in secrets)]
    runtime = [*Path("/tmp").glob(f"mlops-*-{stack.root.key}")]
    found = files_with(secrets, stack.project.folder, *runtime, without=("venv",))
    root = stack.root.path
    assert root / "programs" / "tracking-server-0" / "files" / "auth.ini" in found
    allowed = (root / "secrets", root / "programs")
    told = [path for path in found if not any(place in path.parents for place in allowed)]
    assert not told, "in the state, a log, the output of a command or the database"
    assert not [path for path in found if exposed(path)]
