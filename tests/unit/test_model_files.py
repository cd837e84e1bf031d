"""The program that fetches the files of a model version, and the resources that keep them."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import mlflow
import pytest
from moto.server import ThreadedMotoServer

from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.plugin.handler import Context
from pulumi_mlops.plugin.object_folder import ObjectFolderHandler
from pulumi_mlops.runtime import model_files
from pulumi_mlops.targets.local.resources.fetched_files import FetchedFilesHandler

from .model_server_fixtures import save_classifier
from .provider_fixtures import Log, make_context

HANDLER = FetchedFilesHandler()
NAMES = ["iris", "a?b #1", "it's", 'it\'s "b"']


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry with version 1 of each of `NAMES`."""
    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = mlflow.MlflowClient(uri, uri)
    path = save_classifier(folder / "saved")
    for name in NAMES:
        client.create_registered_model(name)
        client.create_model_version(name, path)
    return uri


@pytest.fixture
def fetch(registry: str, tmp_path: Path) -> Any:
    """Run the program in this process."""

    def run(name: str = "iris", version: str = "1", **env: str) -> int:
        folder = tmp_path / "fetched"
        folder.mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            variables = {
                "FETCHED_DIR": str(folder), "MLOPS_MODEL_NAME": name,
                "MLOPS_MODEL_VERSION": version, "MLFLOW_TRACKING_URI": registry, **env,
            }  # fmt: skip
            for key, value in variables.items():
                patch.setenv(key, value)
            mlflow.set_registry_uri(None)
            return model_files.main(os.environ)

    return run


def test_the_manifest_has_the_digest_of_a_file_of_several_chunks(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(content)
    model_files.write_manifest(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    digest = hashlib.sha256(content).hexdigest()
    assert manifest == {"weights": {"size": len(content), "sha256": digest}}


@pytest.mark.parametrize("name", NAMES)
def test_a_version_is_fetched_once(fetch: Any, tmp_path: Path, name: str) -> None:
    assert fetch(name) == 0
    folder = tmp_path / "fetched"
    assert (folder / "model" / "MLmodel").is_file()
    assert model_files.problems(folder, digests=True) == []
    (folder / "model" / "python_env.yaml").write_text("changed")
    assert model_files.problems(folder) == ["python_env.yaml differs"]
    assert fetch(name, MLFLOW_TRACKING_URI="http://127.0.0.1:1") == 1
    assert fetch(name) == 0
    assert model_files.problems(folder, digests=True) == []
    assert fetch(name, MLFLOW_TRACKING_URI="http://127.0.0.1:1") == 0, "complete: nothing to fetch"


@pytest.mark.parametrize("name", NAMES)
def test_a_version_that_is_not_registered_ends_at_once(
    fetch: Any, capsys: pytest.CaptureFixture[str], name: str, tmp_path: Path
) -> None:
    assert fetch(name, "7") == 1
    error = capsys.readouterr().err
    assert error == (
        f"error: version 7 of model '{name}' is not registered; registered: 1. "
        f"There is no copy of its files in {tmp_path / 'fetched'}\n"
    )
    assert fetch("rose") == 1
    assert "model 'rose' has no registered versions" in capsys.readouterr().err


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for key, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="models")
    yield client
    server.stop()


COPY = {"MLOPS_MODEL_COPY": "s3://models/served/v1"}


def test_a_copy_outlives_the_registered_version(
    fetch: Any, tmp_path: Path, bucket: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(**COPY) == 0
    (tmp_path / "fetched").rename(tmp_path / "first")
    assert fetch("no such model", **COPY) == 0, "from the copy"
    assert model_files.problems(tmp_path / "fetched", digests=True) == []

    (tmp_path / "fetched").rename(tmp_path / "second")
    bucket.put_object(Bucket="models", Key="served/v1/model/MLmodel", Body=b"cut off")
    assert fetch("no such model", **COPY) == 1
    assert "s3://models/served/v1 is damaged: MLmodel differs" in capsys.readouterr().err


def test_the_objects_of_a_folder_are_deleted_with_it(bucket: Any, tmp_path: Path) -> None:
    handler = ObjectFolderHandler()
    log = Log()
    ctx = make_context(tmp_path, handler.token, "copy", log=log)
    for key in ("served/v1/a", "served/v1/b/c", "served/v10/a"):
        bucket.put_object(Bucket="models", Key=key, Body=b"")
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    new = handler.inputs(uri="s3://models/served/v1", endpoint_url=endpoint)
    assert handler.check(ctx, handler.inputs(uri="s3://models")) == [
        ("uri", "must be s3://bucket/prefix")
    ]
    resource_id, _ = handler.create(ctx, new)
    handler.delete(ctx, resource_id, {"endpointUrl": endpoint})
    left = bucket.list_objects_v2(Bucket="models")["Contents"]
    assert [each["Key"] for each in left] == ["served/v10/a"]
    handler.delete(ctx, resource_id, {"endpointUrl": "http://127.0.0.1:1"})
    assert "s3://models/served/v1 is not deleted: no S3 service answers" in log.of("warning")[0]


# The resource of the local target


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return make_context(tmp_path, HANDLER.token, "files", log=Log())


def inputs(script: str, content: str = "1", **more: Any) -> Any:
    return HANDLER.inputs.model_validate(
        {"command": [sys.executable, "-c", script], "content": content, **more}
    )


WRITE = "import os, pathlib; pathlib.Path(os.environ['FETCHED_DIR'], 'x').write_text('1')"


def test_files_are_fetched_once_and_removed_with_the_resource(ctx: Context) -> None:
    new = inputs(WRITE)
    resource_id, outputs = HANDLER.create(ctx, new)
    files = Path(outputs["path"])
    assert (files / "x").read_text() == "1"
    assert HANDLER.replaces({"content"}, {}, new) == {"content"}
    assert HANDLER.drift(ctx, resource_id, outputs) == {}
    failing = inputs("raise SystemExit(1)")
    assert HANDLER.update(ctx, resource_id, outputs, failing) == outputs, "nothing is fetched"

    # Somebody removed the folder: the next update fetches again.
    (files / "x").unlink()
    files.rmdir()
    assert HANDLER.drift(ctx, resource_id, outputs) == {"status": "missing"}
    assert HANDLER.update(ctx, resource_id, outputs, new) == outputs
    assert (files / "x").read_text() == "1"
    HANDLER.delete(ctx, resource_id, outputs)
    assert not ctx.root.path.exists()


def test_a_failed_fetch_says_why_and_leaves_nothing(ctx: Context) -> None:
    script = f"{WRITE}; import sys; sys.exit('error: version 7 is not registered')"
    with pytest.raises(ResourceError, match=r"^version 7 is not registered$"):
        HANDLER.create(ctx, inputs(script))
    with pytest.raises(ResourceError, match=r"not fetched after 0.5 s \(input timeoutSeconds\)"):
        HANDLER.create(ctx, inputs("import time; time.sleep(60)", timeoutSeconds=0.5))
    stopped = replace(ctx, cancelled=threading.Event())
    stopped.cancelled.set()
    with pytest.raises(ResourceError, match="interrupted"):
        HANDLER.create(stopped, inputs("import time; time.sleep(60)"))
    assert not (ctx.root.path / "fetched").exists()


def test_secrets_of_a_fetch_are_in_no_file(ctx: Context) -> None:
    _, outputs = HANDLER.create(ctx, inputs(WRITE, env={"PASSWORD": "correct-horse"}))
    files = [each for each in ctx.root.path.rglob("*") if each.is_file()]
    assert files
    assert not [each for each in files if "correct-horse" in each.read_text(errors="replace")]
    assert outputs["status"] == "complete"
