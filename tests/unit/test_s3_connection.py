"""S3 clients with the options of the installed botocore, and with those of an older one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from pulumi_mlops.runtime.prediction_log import store_for as log_store_for
from pulumi_mlops.runtime.quality.store import store_for as source_store_for
from pulumi_mlops.runtime.s3.client import S3Endpoint
from pulumi_mlops.runtime.s3.connection import connect

NEWER = {
    "request_checksum_calculation",
    "response_checksum_validation",
    "ignore_configured_endpoint_urls",
}
"""The options that botocore 1.29 does not have."""


class OldConfig(Config):
    """The configuration of botocore 1.29: it refuses the newer options."""

    OPTION_DEFAULTS = {  # noqa: RUF012 - as in botocore
        name: value for name, value in Config.OPTION_DEFAULTS.items() if name not in NEWER
    }

    def __init__(self, **options: Any) -> None:
        if unknown := NEWER & options.keys():
            raise TypeError(f"Got unexpected keyword argument {unknown}")
        super().__init__(**options)
        for name in NEWER:  # the installed botocore reads them
            setattr(self, name, Config.OPTION_DEFAULTS[name])


@pytest.fixture(params=["installed", "1.29"])
def botocore_version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A botocore that knows no newer options and reads no AWS_ENDPOINT_URL, or the installed."""
    version: str = request.param
    if version != "installed":
        monkeypatch.setattr("botocore.config.Config", OldConfig)
        monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    return version


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.usefixtures("store", "botocore_version")
def test_each_program_reaches_the_store_of_the_environment() -> None:
    client = S3Endpoint.of_environment(str).client()
    client.create_bucket(Bucket="data")
    log_store_for("s3://data/team").put("labels/one.csv", b"id,label\n")
    assert client.get_object(Bucket="data", Key="team/labels/one.csv")["Body"].read()
    source = source_store_for("s3://data/team")
    assert [file.key for file in source.files("labels/")] == ["labels/one.csv"]
    with source.open("labels/one.csv") as content:
        assert content.read() == b"id,label\n"


def test_newer_options_are_set_where_they_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    config = connect("http://127.0.0.1:1", region="us-east-1").meta.config
    assert getattr(config, "request_checksum_calculation", None) == "when_required"
    assert getattr(config, "response_checksum_validation", None) == "when_required"
    monkeypatch.setattr("botocore.config.Config", OldConfig)
    connect("http://127.0.0.1:1", region="us-east-1")


@pytest.mark.usefixtures("store")
def test_the_address_of_aws_is_not_that_of_the_environment() -> None:
    client = connect(None, region="eu-central-1", key="k", secret="s")
    assert client.meta.endpoint_url == "https://s3.eu-central-1.amazonaws.com"
