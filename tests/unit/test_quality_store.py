"""The stores that the quality service reads: S3 (moto) and a folder list and return the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from pulumi_mlops.runtime.quality.store import SourceStore, store_for

FILES = {
    "labels/endpoint=a/one.csv": b"id,label\n",
    "labels/endpoint=a/two.csv": b"2",
    "labels/endpoint=a%20b/three.csv": b"3",
    "predictions/endpoint=a/version=1/date=2026-11-25/x.parquet": b"4",
    "predictions/endpoint=a/version=2/date=2026-11-26/y.parquet": b"5",
}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "s3", "s3 with a prefix"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> SourceStore:
    if request.param == "folder":
        for key, content in FILES.items():
            (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / key).write_bytes(content)
        return store_for(str(tmp_path))
    for name, value in {
        "AWS_ENDPOINT_URL": bucket, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1,localhost,0.0.0.0",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    name, prefix = ("plain", "") if request.param == "s3" else ("prefixed", "team/x/")
    client = boto3.client("s3")
    client.create_bucket(Bucket=name)
    for key, content in FILES.items():
        client.put_object(Bucket=name, Key=prefix + key, Body=content)
    return store_for(f"s3://{name}/{prefix}")


def test_listings_and_contents(store: SourceStore) -> None:
    assert store.folders("predictions/endpoint=a/") == ["version=1", "version=2"]
    assert store.folders("predictions/endpoint=none/") == []
    assert store.folders("labels/") == ["endpoint=a", "endpoint=a%20b"]
    files = list(store.files("labels/endpoint=a/"))
    assert [file.key for file in files] == sorted(FILES)[1:3]
    assert all(file.version and file.time > 1.7e9 for file in files)
    with store.open("labels/endpoint=a/one.csv") as content:
        assert content.read() == b"id,label\n"
        content.seek(3)
        assert content.read(5) == b"label"


def test_a_store_that_fails_raises_oserror(store: SourceStore) -> None:
    with pytest.raises(OSError), store.open("labels/gone.csv"):
        pass


@pytest.mark.parametrize("location", ["", "http://host/x", "s3:///x"])
def test_other_locations_are_refused(location: str) -> None:
    with pytest.raises(ValueError, match="is not a location"):
        store_for(location)
