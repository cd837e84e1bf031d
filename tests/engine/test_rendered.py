"""The environment for a cluster, rendered into a folder by the real engine; there is no cluster."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kubernetes"))
from platform_on_cluster import CHECKOUT, Platform

pytestmark = pytest.mark.engine

CLUSTER = yaml.safe_load((CHECKOUT / "stacks" / "Pulumi.cluster.yaml").read_text())["config"]
ENVIRONMENTS = (
    "artifacts", "artifacts-bucket", "tracking", "tracking-database", "penguins-pipeline",
    "penguins-endpoint", "router", "monitoring",
)  # fmt: skip
IMAGES = {
    f"platform-{name}": f"registry.example.com/{name}@sha256:{'0' * 64}" for name in ENVIRONMENTS
}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    if shutil.which("pulumi") is None:
        pytest.fail("there is no pulumi on PATH: `make test` puts the engine there")
    made = Platform(tmp_path_factory.mktemp("rendered") / "project", {}, "10.0.0.0/8")
    made.env |= {"KUBECONFIG": str(made.folder / "there-is-none")}
    kubernetes = {
        **CLUSTER["mlops:kubernetes"], "images": IMAGES, "render_to": "clusters/ml",
        # What another stack of the same team has: no reason to complain.
        "context": "nowhere", "kubeconfig": "there-is-none",
    }  # fmt: skip
    made.config = {**CLUSTER, "mlops:kubernetes": kubernetes}
    yield made
    made.destroy()


def files(platform: Platform) -> dict[str, bytes]:
    folder = platform.folder / "clusters" / "ml"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def rendered(platform: Platform) -> dict[str, bytes]:
    platform.preview()
    assert not (platform.folder / "clusters").exists(), "a preview writes nothing"
    platform.up()
    return files(platform)


def secret_values(platform: Platform) -> set[str]:
    state = json.loads(platform.run("pulumi", "stack", "export", "--show-secrets"))
    found = {
        json.loads(each["outputs"]["value"]["plaintext"])
        for each in state["deployment"]["resources"]
        if each["type"] == "mlops:index:GeneratedSecret"
    }
    assert len(found) >= 3
    return found


def test_the_manifests_of_a_whole_platform(rendered: dict[str, bytes]) -> None:
    objects = [yaml.safe_load(text) for text in rendered.values()]
    kinds = {each["kind"] for each in objects}
    assert {"Namespace", "Deployment", "StatefulSet", "Job", "PersistentVolumeClaim"} <= kinds
    assert "Secret" not in kinds
    for name, each in zip(rendered, objects, strict=True):
        assert "pulumi" not in str(each["metadata"].get("annotations", {})), name
        assert "status" not in each
    jobs = sorted(each["metadata"]["name"] for each in objects if each["kind"] == "Job")
    assert [name[:-9] for name in jobs] == [
        "platform-artifacts-bucket", "platform-penguins-pipeline-job",
        "platform-tracking-migration",
    ]  # fmt: skip


def test_data_is_kept_and_what_serves_it_is_not(
    platform: Platform, rendered: dict[str, bytes]
) -> None:
    """Children inherit how a parent is kept: PostgreSQL's server is one of its volume."""
    resources = json.loads(platform.state())["deployment"]["resources"]
    claims = {"platform-artifacts-data", "platform-tracking-database"}
    found = {
        option: {each["urn"].rsplit("::", 1)[-1] for each in resources if each.get(option)}
        for option in ("protect", "retainOnDelete")
    }
    assert found == {"protect": claims, "retainOnDelete": {*claims, "namespace"}}


def test_no_secret_is_in_any_file(platform: Platform, rendered: dict[str, bytes]) -> None:
    all_of_it = b"\n".join(rendered.values()).decode()
    state = platform.state()
    for secret in secret_values(platform):
        assert secret not in all_of_it
        assert base64.b64encode(secret.encode()).decode() not in all_of_it
        assert secret not in state


def test_the_secrets_are_handed_over(platform: Platform, rendered: dict[str, bytes]) -> None:
    told = platform.run("mlops", "secrets", "--stack", "test")
    secrets = list(yaml.safe_load_all(told))
    assert {each["kind"] for each in secrets} == {"Secret"}
    content = {
        base64.b64decode(value).decode() for each in secrets for value in each["data"].values()
    }
    for value in secret_values(platform):
        assert any(value in text for text in content)
    named = {(each["metadata"]["name"], key) for each in secrets for key in each["data"]}
    needed = set(references([yaml.safe_load(text) for text in rendered.values()]))
    assert needed
    assert needed <= named | {(name, "") for name, _ in named}


def references(value: Any) -> Iterator[tuple[str, str]]:
    """The Secrets that pods refer to, and which key of them where they name one."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "secretKeyRef":
                yield item["name"], item["key"]
            elif key == "secretRef":
                yield item["name"], ""
            elif key == "secret" and "secretName" in item:
                yield item["secretName"], ""
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_a_second_update_changes_no_byte(platform: Platform, rendered: dict[str, bytes]) -> None:
    platform.preview("--expect-no-changes")
    told = platform.up()
    assert "unchanged" in told
    assert files(platform) == rendered


def test_another_checkout_renders_the_same_bytes(
    platform: Platform, rendered: dict[str, bytes], tmp_path: Path
) -> None:
    """As CI does: another folder each time, with the state of a back end that all share."""
    moved = tmp_path / "elsewhere"
    shutil.copytree(platform.folder, moved)
    there, platform.folder = platform.folder, moved
    try:
        platform.preview("--expect-no-changes")
        platform.train(9)
        platform.up()
        assert files(platform) != rendered
        platform.train(7)
        platform.up()
        assert files(platform) == rendered
    finally:
        platform.folder = there
    assert files(platform) == rendered, "what was written there is not written here"


def test_what_is_removed_goes_and_another_pipeline_is_another_job(
    platform: Platform, rendered: dict[str, bytes]
) -> None:
    before = dict(platform.config)
    platform.train(8)
    platform.config = {**platform.config, "platform:endpoints": {}}
    platform.up()
    now = files(platform)
    gone, new = set(rendered) - set(now), set(now) - set(rendered)
    assert any("endpoint" in name for name in gone)
    assert not any("endpoint" in name for name in now)
    (job,) = [name for name in new if "-job-" in name]
    (old,) = [name for name in gone if name.startswith("1-manifest/batch_v1-job-")]
    assert job[:-13] == old[:-13]
    platform.config = before
    platform.train(7)
    platform.up()
    assert files(platform) == rendered


def test_commands_that_need_a_cluster_say_so(
    platform: Platform, rendered: dict[str, bytes]
) -> None:
    for command in (["status"], ["connect", "--", "true"], ["run", "penguins"]):
        told = platform.run("mlops", *command[:1], "--stack", "test", *command[1:], fails=True)
        assert "Traceback" not in told
        assert "kubeconfig" in told or "there-is-none" in told, told
    assert os.environ.get("KUBECONFIG") != platform.env["KUBECONFIG"]
