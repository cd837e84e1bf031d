"""A model with an unusual name, served, and kept after its registered version is deleted."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from copy import deepcopy
from typing import Any
from urllib.parse import quote, unquote

import boto3
import httpx
import mlflow
import psutil
import pytest
from botocore.exceptions import ClientError
from platform_project import DEV, INVOCATION, PENGUIN, Stack, until

from pulumi_mlops.targets.local.operations import checks

pytestmark = pytest.mark.engine

NAME = ' it\'s "50%2F" #1?\\[größe] 模型🐧 '
SERVER = "platform-odd-endpoint-v1"


@pytest.fixture
def registry(platform: Stack) -> Iterator[mlflow.MlflowClient]:
    """The registry, with the penguins' version registered under the unusual name too."""
    platform.apply(platform.applied or DEV)
    uri = platform.outputs()["tracking_url"]
    with pytest.MonkeyPatch.context() as patch:
        # By the environment: MLflow's own setters would hold for every test that follows.
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        client = mlflow.MlflowClient(uri, uri)
        source = client.get_model_version("penguins", "1")
        client.create_registered_model(NAME)
        model_id = source.source.removeprefix("models:/")
        client.create_model_version(NAME, source.source, source.run_id, model_id=model_id)
        yield client


def with_odd() -> dict[str, Any]:
    config = deepcopy(DEV)
    penguins = config["platform:endpoints"]["penguins"]
    config["platform:endpoints"]["odd"] = {
        **{key: value for key, value in penguins.items() if key != "port"},
        "model": NAME,
        "traffic": {"1": 100},
    }
    return config


def predicts(url: str) -> bool:
    try:
        answer = httpx.post(f"{url}/invocations", json=INVOCATION, trust_env=False)
        return answer.status_code == 200 and answer.json()["predictions"] == ["Adelie"]
    except httpx.HTTPError:
        return False


def test_a_model_with_an_unusual_name_outlives_its_registered_version(
    platform: Stack, registry: mlflow.MlflowClient, s3: Any
) -> None:
    before = platform.applied or DEV
    platform.apply(with_odd())
    url = platform.outputs()["endpoints"]["odd"]["url"]
    assert predicts(url)
    path = f"{url}/v2/models/{quote(NAME, safe='')}"
    answer = httpx.get(path, trust_env=False)
    assert (answer.status_code, answer.json()["name"]) == (200, NAME)
    assert unquote(answer.headers["x-model-name"]) == NAME
    tensors = [
        {"name": each["name"], "datatype": each["datatype"], "shape": [1],
         "data": [PENGUIN[each["name"]]]}
        for each in answer.json()["inputs"] if each["name"] in PENGUIN
    ]  # fmt: skip
    answer = httpx.post(f"{path}/infer", json={"inputs": tensors}, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model_name"] == NAME
    until(lambda: s3.list_objects_v2(Bucket="artifacts", Prefix="predictions/endpoint=odd/")
          ["KeyCount"], "the prediction log")  # fmt: skip

    # The version is deleted with its model. A server that is killed comes back without it.
    assert checks.models(platform.root)[0].verdict == "ok"
    registry.delete_registered_model(NAME)
    (found,) = checks.models(platform.root)
    assert (found.verdict, f"no longer registered: {NAME} version 1" in found.message) == (
        "warn", True,
    )  # fmt: skip
    name = server(platform)
    (pid,) = platform.programs()[name]
    env = psutil.Process(pid).environ()
    own = boto3.client(
        "s3", endpoint_url=env["AWS_ENDPOINT_URL"], region_name=env["AWS_DEFAULT_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    for denied in (
        lambda: own.list_objects_v2(Bucket="artifacts"),
        lambda: own.put_object(Bucket="artifacts", Key="mlflow/x", Body=b""),
        lambda: own.get_object(Bucket="artifacts", Key="predictions/x"),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            denied()
    os.kill(pid, signal.SIGKILL)
    until(lambda: platform.programs().get(name, [pid]) != [pid], "a new server")
    until(lambda: predicts(url), "predictions")
    platform.up("--refresh")
    assert predicts(url)
    platform.preview("--expect-no-changes")

    folders = {each.name.rpartition(".")[0] for each in (platform.root.path / "fetched").iterdir()}
    assert f"{SERVER}-files" in folders
    platform.apply(before)
    folders = {each.name.rpartition(".")[0] for each in (platform.root.path / "fetched").iterdir()}
    assert f"{SERVER}-files" not in folders


def server(platform: Stack) -> str:
    (name,) = (each for each in platform.programs() if each.startswith(f"{SERVER}."))
    return name
