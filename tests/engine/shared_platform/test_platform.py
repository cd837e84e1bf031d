"""The whole platform as users meet it: outputs, predictions, clients, metrics, diffs, secrets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import yaml
from platform_project import (
    DEV,
    INVOCATION,
    Change,
    Commands,
    Project,
    Stack,
    client,
    exposed,
    files_with,
    until,
)

pytestmark = pytest.mark.engine

PIPELINE = "pipelines/penguins_mlflow"


@pytest.fixture(scope="module")
def outputs(platform: Stack) -> dict[str, Any]:
    platform.apply(DEV)
    return platform.outputs()


def test_outputs_say_where_everything_is(outputs: dict[str, Any], platform: Stack) -> None:
    for name in ("tracking_url", "s3_endpoint_url", "dashboard_url"):
        assert urlsplit(outputs[name]).hostname == "127.0.0.1"
    assert outputs["artifact_store"] == "s3://artifacts"
    assert outputs["logs_dir"] == str(platform.root.path / "logs")
    (name, endpoint), *others = outputs["endpoints"].items()
    assert (name, others) == ("penguins", [])
    assert endpoint["versions"] == ["1"]
    assert endpoint["traffic"] == {"1": 100}
    assert urlsplit(endpoint["url"]).hostname == "127.0.0.1"


def test_prediction(outputs: dict[str, Any]) -> None:
    answer = httpx.post(
        f"{outputs['endpoints']['penguins']['url']}/invocations", json=INVOCATION, trust_env=False
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-model-version"] == "1"
    assert answer.json()["predictions"] == ["Adelie"]


CLIENT = """
import boto3, json, mlflow, sys
store = boto3.client("s3")
store.put_object(Bucket="artifacts", Key="from-a-client.txt", Body=b"hello")
version = mlflow.MlflowClient().get_model_version("penguins", "1")
mlflow.set_experiment("from-a-client")
with mlflow.start_run() as run:
    mlflow.log_metric("accuracy", 0.5)
    mlflow.log_text("hello", "note.txt")
    note = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/note.txt")
stored = store.get_object(Bucket="artifacts", Key="from-a-client.txt")["Body"].read().decode()
print(json.dumps([stored, version.status, note]))
"""


def test_client_env_is_enough_for_clients(outputs: dict[str, Any]) -> None:
    done = subprocess.run(  # noqa: PLW1510 - its words are shown below
        ["bash", "-c", '. "$0" && exec "$1" -c "$2"', outputs["client_env_file"], sys.executable,
         CLIENT],
        env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["hello", "READY", "hello"]


def test_prediction_log_arrives_as_parquet(outputs: dict[str, Any], s3: Any) -> None:
    import pyarrow.parquet as parquet  # noqa: PLC0415 - a second of imports
    from pyarrow import BufferReader  # noqa: PLC0415

    url = outputs["endpoints"]["penguins"]["url"]
    answer = httpx.post(f"{url}/invocations", json=INVOCATION, trust_env=False)
    wanted = answer.headers["x-request-id"]

    def logged() -> dict[str, Any] | None:
        for item in s3.list_objects_v2(Bucket="artifacts", Prefix="predictions/")["Contents"]:
            body = s3.get_object(Bucket="artifacts", Key=item["Key"])["Body"].read()
            for record in parquet.read_table(BufferReader(body)).to_pylist():
                if record["id"] == wanted:
                    return record
        return None

    until(lambda: s3.list_objects_v2(Bucket="artifacts", Prefix="predictions/")["KeyCount"])
    record = until(logged, "the prediction's record")
    assert (record["endpoint"], record["version"]) == ("penguins", "1")
    assert json.loads(record["outputs"]) == ["Adelie"]
    assert json.loads(record["inputs"])["island"] == ["Torgersen"]


def test_metrics_of_every_service(outputs: dict[str, Any]) -> None:
    def jobs() -> dict[str, str]:
        text = httpx.get(f"{outputs['dashboard_url']}/federate", trust_env=False).text
        return {line.split('job="')[1].split('"')[0]: line.rsplit(" ", 1)[-1]
                for line in text.splitlines() if line.startswith("up{")}  # fmt: skip

    wanted = dict.fromkeys(("artifacts", "tracking", "serving", "route"), "1.0")
    until(lambda: jobs() == wanted, "every service is up")
    text = httpx.get(f"{outputs['dashboard_url']}/federate", trust_env=False).text
    for metric in ("mlops_inference_requests_total", "haproxy_", "SeaweedFS_"):
        assert metric in text


def test_dashboard_answers(outputs: dict[str, Any]) -> None:
    page = httpx.get(outputs["dashboard_url"], trust_env=False)
    assert page.status_code == 200
    assert "platform-penguins-endpoint" in page.text
    status = httpx.get(f"{outputs['dashboard_url']}/api/status", trust_env=False).json()
    assert (status["stack"], status["state"]) == ("dev", "ok")


def test_second_up_changes_nothing(platform: Stack) -> None:
    before = platform.programs()
    platform.up("--expect-no-changes")
    platform.preview("--expect-no-changes")
    platform.pulumi("refresh", "--preview-only", "--expect-no-changes")
    assert platform.programs() == before


WRONG_KEY = """
import pulumi
import pulumi_mlops as mlops
mlops.ArtifactStore("artifacts", {{
    "endpoint_url": "{url}", "access_key_id": "mlops", "secret_access_key": "a-key-of-nobody",
}})
"""


def test_a_wrong_key_is_named_and_not_shown(
    outputs: dict[str, Any], project: Callable[..., Project]
) -> None:
    stack = project(WRONG_KEY.format(url=outputs["s3_endpoint_url"])).stack("dev")
    output = stack.up(expect_success=False)
    assert "secretAccessKey" in output or "secret_access_key" in output
    assert "a-key-of-nobody" not in output


def test_a_changed_variable_is_all_that_differs(platform: Stack) -> None:
    platform.apply(DEV)
    with platform.configured({**DEV, "platform:training": {"env": {"GREETING": "hello"}}}):
        changes = platform.changes()
    assert {name: (change.op, change.paths) for name, change in changes.items()} == {
        "platform-penguins-pipeline-job": ("update", {"env.GREETING"})
    }


def test_a_changed_requirement_is_what_differs(platform: Stack) -> None:
    file = platform.project.folder / PIPELINE / "requirements.txt"
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    place = next(index for index, line in enumerate(lines) if line.startswith("palmerpenguins"))
    config = deepcopy(DEV)
    config["platform:endpoints"]["penguins"]["requirements"] = [
        *lines[:place], "palmerpenguins", *lines[place + 1 :],
    ]  # fmt: skip
    platform.apply(DEV)
    with platform.configured(config):
        changes = platform.changes()
    environment = changes.pop("platform-penguins-endpoint-environment")
    assert (environment.op, environment.paths) == ("replace", {f"requirements[{place}]"})
    # The version's process is made anew in it, and the route and the monitor follow.
    process = changes.pop("platform-penguins-endpoint-v1")
    assert (process.op, process.paths) == ("replace", {"environment", "code"})
    route = changes.pop("platform-penguins-endpoint-route")
    assert (route.op, route.paths) == ("update", {"services.v1.addresses"})
    assert changes == {
        "platform-monitoring-server": Change(
            "update", frozenset({'files["platform-penguins-endpoint-v1.json"]'})
        )
    }


def test_everything_listens_on_loopback_only(platform: Stack) -> None:
    mine = {process.pid for process in platform.processes()}
    listening = [
        connection
        for connection in psutil.net_connections("inet")
        if connection.pid in mine and connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= len(platform.ports())
    elsewhere = [each for each in listening if each.laddr.ip not in ("127.0.0.1", "::1")]
    assert not elsewhere
    # What was opened beside the claimed ports could take a port of another stack.
    assert {each.laddr.port for each in listening} == set(platform.ports().values())


def test_secrets_stay_secret(platform: Stack, commands: Commands, outputs: dict[str, Any]) -> None:
    secrets = {file.read_text() for file in (platform.root.path / "secrets").iterdir()}
    assert outputs["client_env"]["AWS_SECRET_ACCESS_KEY"] in secrets
    assert not [command for command in commands.seen() if any(text in command for text in secrets)]
    runtime = [*Path("/tmp").glob(f"mlops-*-{platform.root.key}")]
    assert runtime
    found = files_with(secrets, platform.project.folder, *runtime, without=("venv",))
    root = platform.root.path
    assert root / "files" / "client.env" in found  # the search finds what is there
    allowed = (root / "files", root / "secrets", root / "programs", root / "jobs")
    told = [path for path in found if not any(place in path.parents for place in allowed)]
    assert not told, "in the state, a log, the output of a command or the program"
    assert not [path for path in found if exposed(path)]


def test_generated_config_file_has_no_secret(platform: Stack) -> None:
    text = yaml.safe_load(platform.config_file.read_text())
    assert set(text) <= {"config", "encryptionsalt"}


STAGING: dict[str, Any] = {
    "platform:artifacts": {"bucket": "artifacts", "retain": True},
    "platform:tracking": {"database": "postgresql", "auth": True, "retain": True},
    "platform:monitoring": {"enabled": False},
}


def test_a_second_stack_beside_it_keeps_its_data(
    platform: Stack, checkout: Project, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow  # noqa: PLC0415 - seconds of imports

    platform.apply(DEV)
    before = platform.programs()
    config = deepcopy(STAGING)
    staging = checkout.stack("staging", config)
    staging.up()
    assert not set(platform.ports().values()) & set(staging.ports().values())
    outputs = staging.outputs()
    tables = staging.root.path / "logs" / "platform-tracking-migration.log"
    for what in ("runs and models", "users"):
        assert f"{what}: from an empty database to revision " in tables.read_text()
    for key in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(key, outputs["client_env"][key])
    client(outputs).put_object(Bucket="artifacts", Key="kept.txt", Body=b"kept")
    registry = mlflow.MlflowClient(outputs["tracking_url"])
    registry.create_registered_model("kept")
    registry.create_model_version("kept", source="s3://artifacts/kept.txt")

    root = staging.root.path
    told = staging.destroy()
    for name in ("platform-artifacts-data", "platform-tracking-database"):
        assert f"data is retained in {root / 'volumes' / name}" in told
    left = {Path(each).relative_to(root).parts[0] for each in staging.leftovers()}
    assert left == {"volumes", "secrets"}
    kept_secrets = {file.read_text() for file in (root / "secrets").iterdir()}
    assert not [each for each in commands.seen() if any(text in each for text in kept_secrets)]
    assert not files_with(kept_secrets, checkout.transcript, staging.state_file())

    staging.up()
    for what in ("runs and models", "users"):
        assert f"{what}: already at revision " in tables.read_text()
    outputs = staging.outputs()
    kept = client(outputs).get_object(Bucket="artifacts", Key="kept.txt")
    assert kept["Body"].read() == b"kept"
    registry = mlflow.MlflowClient(outputs["tracking_url"])
    assert registry.get_model_version("kept", "1").status == "READY"

    for part in ("platform:artifacts", "platform:tracking"):
        config[part]["retain"] = False
    staging.configure(config)
    staging.up()
    staging.destroy()
    assert not staging.leftovers()
    assert platform.programs() == before


def test_an_endpoint_without_requirements_gets_those_of_mlflow(platform: Stack) -> None:
    config = deepcopy(DEV)
    stored = {"model": "penguins", "pipeline": "penguins", "traffic": {"1": 100}}
    config["platform:endpoints"]["stored"] = stored
    platform.apply(DEV)
    with platform.configured(config):
        before = platform.changes()
    assert before["platform-stored-endpoint-v1-environment"].op == "create"
    platform.apply(config)
    platform.preview("--expect-no-changes")
    environment = platform.resources()["platform-stored-endpoint-v1-environment"]
    requirements = environment["inputs"]["requirements"]
    version = platform.resources()["platform-stored-endpoint-v1-model"]["outputs"]
    assert version["requirements"] == requirements[: len(version["requirements"])]
    assert environment["inputs"]["python"] == version["python"]
    assert any(line.startswith("mlflow==") for line in requirements)
    endpoints = platform.outputs()["endpoints"]
    answers = [
        httpx.post(f"{endpoints[name]['url']}/invocations", json=INVOCATION).json()
        for name in ("penguins", "stored")
    ]
    assert answers[0] == answers[1]
    platform.apply(DEV)
