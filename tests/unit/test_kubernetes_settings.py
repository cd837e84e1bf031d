"""`mlops:kubernetes`: what it may say, and what is told when it says something else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulumi_mlops.targets.kubernetes.api.location import Where
from pulumi_mlops.targets.kubernetes.settings import KubernetesSettings, load


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "Pulumi.yaml").write_text("name: project\n")
    monkeypatch.chdir(tmp_path)
    before = pulumi.runtime.config.CONFIG.get()
    yield
    pulumi.runtime.config.CONFIG.set(before)


def load_text(text: str | None) -> KubernetesSettings:
    pulumi.runtime.config.CONFIG.set({} if text is None else {"mlops:kubernetes": text})
    return load()


def refusal(given: Any) -> str:
    with pytest.raises(pulumi.RunError) as refused:
        load_text(json.dumps(given))
    return str(refused.value)


def test_nothing_has_to_be_said() -> None:
    found = load_text(None)
    assert found == load_text("{}") == load_text("")
    assert (found.namespace, found.create_namespace, found.delete_namespace) == (
        "mlops", True, False,
    )  # fmt: skip
    assert (found.context, found.kubeconfig, found.registry, found.images) == (None, None, None, {})
    assert (found.storage_class, found.volume_size) == (None, "10Gi")


@pytest.mark.parametrize(
    "given",
    [
        {"namespace": "a"},
        {"namespace": "team-1" + "x" * 57},
        {"registry": "registry.example.com"},
        {"registry": "localhost:5000/team/ml"},
        {"registry": "10.0.0.1:5000"},
        {"images": {"store": "seaweedfs"}},
        {"images": {"store": "registry.example.com:5000/team/seaweed_fs:4.48"}},
        {"images": {"store": f"registry.example.com/seaweedfs@sha256:{'0' * 64}"}},
        {"storage_class": ""},
        {"storage_class": "fast.ssd-1"},
        {"volume_size": "500Mi"},
        {"volume_size": "1.5Ti"},
        {"volume_size": "1073741824"},
        {"kubeconfig": "~/.kube/other", "context": "arn:aws:eks:eu-central-1:1:cluster/a"},
        {"build": {"system_packages": ["libgomp1"], "network": "host"}},
        {"create_namespace": "false"},
    ],
)
def test_what_can_be(given: dict[str, Any]) -> None:
    found = load_text(json.dumps(given)).model_dump()
    for key, value in given.items():
        if not isinstance(found[key], bool | dict):
            assert found[key] == value


@pytest.mark.parametrize(
    ("given", "where", "told"),
    [
        ({"namespace": "Team"}, "namespace", "small letters, digits and hyphens"),
        ({"namespace": "-team"}, "namespace", "beginning and ending with a letter or digit"),
        ({"namespace": "x" * 64}, "namespace", "1 to 63"),
        ({"namespace": "team\n"}, "namespace", "small letters"),
        ({"namespace": ""}, "namespace", "1 to 63"),
        ({"namespace": "default"}, "namespace", "belongs to the cluster: choose one"),
        ({"namespace": "kube-system"}, "namespace", "belongs to the cluster: choose one"),
        ({"namespace": 1}, "namespace", "must be text"),
        ({"namespce": "a"}, "namespce", "did you mean `namespace`?"),
        ({"registry": "https://registry.example.com"}, "registry", "without https://"),
        ({"registry": "registry.example.com/team/"}, "registry", "registry.example.com/team"),
        ({"images": {"store": "https://a/b"}}, "images", "store must be an image, as in"),
        ({"images": {"store": "a b"}}, "images", "store must be an image"),
        ({"images": {"store": "a/ö"}}, "images", "store must be an image"),
        ({"images": ["a"]}, "images", "must be a map of keys to values"),
        ({"storage_class": "Fast SSD"}, "storage_class", "kubectl get storageclass"),
        ({"volume_size": "10 GB"}, "volume_size", "as in `10Gi`"),
        ({"volume_size": "0Gi"}, "volume_size", "as in `10Gi`"),
        ({"volume_size": "-1Gi"}, "volume_size", "as in `10Gi`"),
        ({"volume_size": 10}, "volume_size", "must be text"),
        ({"context": ""}, "context", "must not be empty"),
        ({"kubeconfig": ""}, "kubeconfig", "must not be empty"),
        ({"create_namespace": "perhaps"}, "create_namespace", "must be true or false"),
        ({"build": {"system_packages": ["; rm"]}}, "build", "not a name of a Debian package"),
        ({"build": {"bse": "x"}}, "build.bse", "did you mean `base`?"),
        ({"build": {"system_packages": "libgomp1"}}, "build.system_packages", "must be a list"),
    ],
)
def test_what_cannot_be_is_told_by_its_key(given: Any, where: str, told: str) -> None:
    (line,) = refusal(given).splitlines()
    assert line.startswith(f"mlops:kubernetes.{where}: ")
    assert told in line


@pytest.mark.parametrize("given", ["team", 1, None, True, ["team"]])
def test_it_is_a_map(given: Any) -> None:
    assert refusal(given) == "mlops:kubernetes: must be a map of keys to values"


def test_every_problem_is_told_at_once() -> None:
    assert len(refusal({"namespace": "A", "volume_size": "x", "regstry": "y"}).splitlines()) == 3


def test_a_password_of_an_index_is_not_told() -> None:
    told = refusal({"build": {"index_url": "https://me:hush@", "base": 1}})
    told += refusal({"build": {"index_url": "https://me:hush hush@packages.example.com"}})
    assert "hush" not in told


KEYS = st.sampled_from([*KubernetesSettings.model_fields, "nmespace"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["base", "index_url", "ca"]) | st.text(), inner, max_size=3
        )
    ),
    max_leaves=5,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(KEYS, VALUES, max_size=4).map(json.dumps) | VALUES.map(json.dumps) | st.text()
)
def test_any_text_is_settings_or_an_error_for_people(text: str) -> None:
    try:
        found = load_text(text)
    except pulumi.RunError as error:
        assert str(error).startswith("mlops:kubernetes")
    else:
        assert found.namespace


def test_the_plugin_takes_the_same_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are from the project's folder, although programs run in another."""
    (tmp_path / "stacks").mkdir()
    monkeypatch.chdir(tmp_path / "stacks")
    monkeypatch.setenv("HOME", "/home/me")
    text = json.dumps(
        {"namespace": "a", "context": "c", "kubeconfig": "conf/kube", "registry": "r"}
    )
    assert Where.of(text) == Where("a", "c", str(tmp_path / "conf/kube"))
    assert Where.of('{"kubeconfig": "~/kube"}').kubeconfig == "/home/me/kube"
    for other in (None, "", "{}", "[1]", "1", "{"):
        assert Where.of(other) == Where("mlops", None, None)
