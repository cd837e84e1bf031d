"""`python -m pulumi_mlops.runtime.s3`: a bucket made within a cluster, as the plugin makes it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

import pulumi_mlops
from pulumi_mlops.runtime.s3 import __main__ as program
from pulumi_mlops.runtime.s3.settings import CLAIM_TAG, OWNER_TAG, owner_of

URN = "urn:pulumi:dev::project::mlops:index:ArtifactStore$mlops:s3:Bucket::store-bucket"
RUNTIME = Path(pulumi_mlops.__file__).parent / "runtime"


@pytest.fixture
def store() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_PAUSE", 0.05)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")


def client(url: str) -> Any:
    return boto3.session.Session().client(
        "s3", endpoint_url=url, region_name="us-east-1",
        config=Config(proxies={}, s3={"addressing_style": "path"}),
    )  # fmt: skip


def settings(url: str, bucket: str, **more: Any) -> str:
    return json.dumps({"bucket": bucket, "endpointUrl": url, "region": "us-east-1", "urn": URN,
                       "lifecycle": None, "publicAccessBlock": False, **more})  # fmt: skip


def tags(url: str, bucket: str) -> dict[str, str]:
    found = client(url).get_bucket_tagging(Bucket=bucket)["TagSet"]
    return {each["Key"]: each["Value"] for each in found}


def test_it_runs_as_often_as_one_likes(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        assert program.main([settings(store, "often", tags={"a": "b"})]) == 0
        found = tags(store, "often")
        assert found["a"] == "b"
        assert found[OWNER_TAG] == owner_of(URN)
    assert client(store).get_bucket_versioning(Bucket="often").get("Status") is None
    claim = tags(store, "often")[CLAIM_TAG]
    more = {"versioning": True, "lifecycle": {"abortIncompleteUploadDays": 3}}
    client(store).put_object(Bucket="often", Key="kept", Body=b"data")
    assert program.main([settings(store, "often", **more)]) == 0
    assert client(store).get_bucket_versioning(Bucket="often")["Status"] == "Enabled"
    (rule,) = client(store).get_bucket_lifecycle_configuration(Bucket="often")["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 3}
    assert tags(store, "often")[CLAIM_TAG] == claim, "it is the same creation"
    assert "hush" not in "".join(capsys.readouterr())


def test_one_of_somebody_else_is_left_alone(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    client(store).create_bucket(Bucket="theirs")
    client(store).put_object(Bucket="theirs", Key="a", Body=b"a")
    assert program.main([settings(store, "theirs")]) == 1
    told = capsys.readouterr().err
    assert "bucket theirs exists" in told
    assert "choose another name (input bucket)\n" in told
    assert "pulumi import" not in told


def test_it_waits_for_the_store_and_for_the_bucket() -> None:
    """Two programs on what an image has: this package's runtime, and nothing else of it."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    url = f"http://127.0.0.1:{port}"

    def begin(*options: str) -> subprocess.Popen[str]:
        blocked = "import sys; sys.modules['pulumi'] = sys.modules['pydantic'] = None; "
        run = "import runpy; runpy.run_module('pulumi_mlops.runtime.s3', run_name='__main__')"
        return subprocess.Popen(
            [sys.executable, "-c", blocked + run, *options, settings(url, "late")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    waiting = begin("--wait")
    assert waiting.stdout is not None
    assert f"no S3 service answers at {url}" in waiting.stdout.readline()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        assert f"there is no bucket late at {url} yet" in waiting.stdout.readline()
        making = begin()
        told, _ = making.communicate(timeout=60)
        assert making.returncode == 0, told
        told, _ = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, told
        assert told == "bucket late is there\n"
    finally:
        server.stop()
        for each in (waiting,):
            each.kill()
