"""What a type checker and the components accept as inputs."""

from __future__ import annotations

import re
import subprocess
import sys
import typing
from collections.abc import Mapping
from pathlib import Path

import pulumi
import pytest

import pulumi_mlops as mlops
from pulumi_mlops import artifacts, monitoring, serving, tracking
from pulumi_mlops.spec import SecretKeyRef
from pulumi_mlops.targets.port import BUCKET_CLIENT

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = """\
import pulumi
import pulumi_mlops as mlops
from pulumi_mlops.plugin import sdk

text: pulumi.Output[str] = pulumi.Output.from_input("x")
store = mlops.ArtifactStore("a", {"bucket": text, "lifecycle": {"abort_incomplete_upload_days": 3}})
mlops.ArtifactStore("b", {"access_key_id": {"secret_key_ref": {"name": "s", "key": "k"}}})
mlops.ArtifactStore("c", {"bukcet": "x"})  # error
mlops.ArtifactStore("d", {"versioning": text})  # error
mlops.ArtifactStore("e", {"lifecycle": {"abort": 3}})  # error
two = pulumi.Output.from_input(2)
server = mlops.TrackingServer("f", {"artifact_store": store, "workers": two})
mlops.TrackingServer("g", {})  # error
mlops.TrackingServer("h", {"artifact_store": server})  # error
mlops.ServingEndpoint("i", {"model": "m", "tracking": server, "requirements": ["numpy"],
                            "traffic": {"1": 100}, "resources": {"cpu": 0.5, "memory": "2Gi"}})
mlops.ServingEndpoint("j", {"model": "m", "tracking": server, "requirements": ["numpy"],
                            "traffic": {1: 100}})  # error
secret = sdk.GeneratedSecret("k", {"length": 16})
sdk.File("l", {"fileName": "notes", "content": secret.value})
sdk.File("m", {"fileName": secret.value, "content": "x"})  # error
uri: pulumi.Output[int] = sdk.Bucket("n", {"bucket": "b"}).uri  # error
"""


def test_a_type_checker_finds_wrong_inputs(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(program)],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    found = {int(line) for line in re.findall(r"program\.py:(\d+): error", done.stdout)}
    lines = PROGRAM.splitlines()
    assert found == {number for number, line in enumerate(lines, 1) if line.endswith("# error")}, (
        done.stdout + done.stderr
    )


def test_required_inputs_can_be_read_at_run_time() -> None:
    assert mlops.PipelineArgs.__required_keys__ == {"source", "runner"}
    assert mlops.ArtifactStoreArgs.__required_keys__ == frozenset()


def test_mappings_and_sequences_of_callers_are_accepted() -> None:
    class Frozen(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return {"1": 100}[key]

        def __iter__(self) -> typing.Iterator[str]:
            return iter(["1"])

        def __len__(self) -> int:
            return 1

    spec = serving.ServingEndpointSettings.of(
        "e", {"model": "m", "traffic": Frozen(), "requirements": ("a", "b")}
    )
    assert spec.traffic == {"1": 100}
    assert spec.requirements == ["a", "b"]


def test_an_output_passes_and_a_value_is_checked() -> None:
    unknown = pulumi.Output.from_input("x")
    assert artifacts.ArtifactStoreSpec.of("a", {"bucket": unknown}).bucket is unknown
    scrape = {"a": unknown, "b": [{"url": "x"}]}
    assert monitoring.MonitoringStackSpec.of("m", {"scrape": scrape}).scrape == scrape
    with pytest.raises(pulumi.RunError, match=r"a\.bucket: must be 3 to 63"):
        artifacts.ArtifactStoreSpec.of("a", {"bucket": "x"})
    with pytest.raises(pulumi.RunError, match=r"m\.scrape: must be a map of keys to values"):
        monitoring.MonitoringStackSpec.of("m", {"scrape": ["a"]})


def test_an_input_of_another_component_is_refused() -> None:
    with pytest.raises(pulumi.RunError) as refusal:
        tracking.TrackingServerSpec.of("t", {"artifact_store": "store", "label": "x"})
    assert str(refusal.value).splitlines()[0].startswith("t.label: there is no such input")
    assert "t.artifact_store: must be a component of the type ArtifactStore" in str(refusal.value)


def test_a_reference_to_a_secret_is_checked() -> None:
    store = {"endpoint_url": "https://s3.example.com", "secret_access_key": "x"}
    reference = {"secret_key_ref": {"name": "keys", "key": "id"}}
    spec = artifacts.ArtifactStoreSpec.of("a", {**store, "access_key_id": reference})
    assert spec.access_key_id.secret_key_ref == SecretKeyRef(name="keys", key="id")
    with pytest.raises(
        pulumi.RunError, match=r"a\.access_key_id\.secret_key_ref\.key: is required"
    ):
        wrong = {"secret_key_ref": {"name": "keys"}}
        artifacts.ArtifactStoreSpec.of("a", {**store, "access_key_id": wrong})


def test_the_bucket_client_is_the_locked_one() -> None:
    assert f"{BUCKET_CLIENT} \\" in (REPOSITORY / "requirements.lock").read_text().splitlines()
