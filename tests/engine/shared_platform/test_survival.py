"""The platform survives the end of its processes and a reboot."""

from __future__ import annotations

import os
import signal
from typing import Any

import httpx
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from faults import reboot
from platform_project import DEV, INVOCATION, Stack, client, until

pytestmark = pytest.mark.engine


def test_the_platform_survives_the_end_of_each_process(platform: Stack, s3: Any) -> None:
    platform.apply(platform.applied or DEV)
    outputs = platform.outputs()
    s3.put_object(Bucket="artifacts", Key="survives.txt", Body=b"here")
    for name, pids in platform.programs().items():
        os.kill(pids[0], signal.SIGKILL)
        until(lambda name=name, pids=pids: pids[0] not in platform.programs().get(name, pids), name)
    until(lambda: as_before(outputs), "everything is back")


def as_before(outputs: dict[str, Any]) -> bool:
    """Whether model, registry, bucket and monitor answer as before."""
    endpoint = outputs["endpoints"]["penguins"]
    try:
        (version, *_) = endpoint["versions"]
        answer = httpx.post(f"{endpoint['url']}/invocations", json=INVOCATION, trust_env=False)
        assert answer.json()["predictions"] == ["Adelie"]
        found = httpx.get(
            f"{outputs['tracking_url']}/api/2.0/mlflow/model-versions/get",
            params={"name": "penguins", "version": version}, trust_env=False,
        )  # fmt: skip
        assert found.json()["model_version"]["status"] == "READY"
        body = client(outputs).get_object(Bucket="artifacts", Key="survives.txt")["Body"].read()
        assert body == b"here"
        return httpx.get(outputs["dashboard_url"], trust_env=False).is_success
    except (httpx.HTTPError, BotoCoreError, ClientError, KeyError, ValueError):
        return False


def test_the_platform_survives_a_reboot(platform: Stack, s3: Any) -> None:
    platform.apply(platform.applied or DEV)
    outputs = platform.outputs()
    s3.put_object(Bucket="artifacts", Key="survives.txt", Body=b"here")
    programs = set(platform.programs())
    reboot(platform)
    platform.up("--refresh")
    assert platform.outputs() == outputs
    assert set(platform.programs()) == programs
    assert until(lambda: as_before(outputs))
    platform.preview("--expect-no-changes")
