"""The benchmark compares like with like: both programs register the same resources."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "tools" / "bench"
SIGNATURE, SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
URN = "urn:pulumi:bench::platform::{}::{}"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    sys.path.insert(0, str(BENCH))
    infrastructure = importlib.import_module("infrastructure")
    yield infrastructure
    sys.path.remove(str(BENCH))


def described(state: dict[str, Any]) -> dict[str, Any]:
    """By URN (stack, project, types of all parents, name): all but times and places in the code."""
    return {
        each["urn"]: {
            key: sorted(value) if key == "dependencies" else value
            for key, value in each.items()
            if key not in {"created", "modified", "sourcePosition", "stackTrace", "id",
                           "propertyDependencies", "provider"}
        }
        for each in state["deployment"]["resources"]
    }  # fmt: skip


def same(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """One resource after the other: what differs can be read in a log then."""
    assert set(theirs) == set(ours)
    for urn, expected in ours.items():
        assert theirs[urn] == expected


@pytest.mark.engine
def test_both_programs_register_the_same_resources(bench: Any, tmp_path: Path) -> None:
    if shutil.which("pulumi") is None:
        pytest.fail("there is no pulumi on PATH: `make test` puts the engine there")
    ours, theirs = bench.pair(tmp_path, bench.stubbed_plugins(tmp_path / "plugins"), endpoints=2)
    expected = described(ours.state())
    assert {urn.split("::")[2].rsplit("$", 1)[-1] for urn in expected} >= {
        "pulumi:pulumi:Stack", "mlops:index:MlopsPlatform", "mlops:index:ServingEndpoint",
        "mlops:local:Process", "mlops:local:Route", "mlops:s3:Bucket",
    }  # fmt: skip
    same(described(theirs.state()), expected)
    # Both find nothing to do, which is what is measured.
    ours.preview()
    theirs.preview()


def resource(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"urn": URN.format(kind, name), "type": kind, "custom": False, **more}


def written(bench: Any, *resources: dict[str, Any]) -> str:
    module: str = bench.module_of({"deployment": {"resources": list(resources)}})
    compile(module, "resources.py", "exec")
    return module


def test_a_component_becomes_a_bare_one_with_its_outputs(bench: Any) -> None:
    module = written(bench, resource("a:b:C", "x", outputs={"url": "http://h"}))
    assert "x_0 = ComponentResource('a:b:C', 'x', {}, ResourceOptions())" in module
    assert "x_0.register_outputs({'url': 'http://h'})" in module


def test_parents_dependencies_and_options_are_kept(bench: Any) -> None:
    parent = resource("a:b:C", "top")
    first = resource("a:b:D", "one", custom=True, inputs={}, parent=parent["urn"])
    second = resource(
        "a:b:D", "two", custom=True, inputs={"list": [1, True, None]}, parent=parent["urn"],
        dependencies=[first["urn"]], retainOnDelete=True,
    )  # fmt: skip
    assert (
        "two_2 = CustomResource('a:b:D', 'two', {'list': [1, True, None]}, ResourceOptions("
        "parent=top_0, depends_on=[one_1], retain_on_delete=True))"
    ) in written(bench, parent, first, second)


def test_what_a_child_does_not_inherit_is_said(bench: Any) -> None:
    parent = resource("a:b:D", "top", custom=True, protect=True, retainOnDelete=True)
    child = resource("a:b:D", "one", custom=True, parent=parent["urn"])
    assert (
        "one_1 = CustomResource('a:b:D', 'one', {}, ResourceOptions("
        "parent=top_0, protect=False, retain_on_delete=False))"
    ) in written(bench, parent, child)


def test_a_secret_stays_one(bench: Any) -> None:
    hidden = {SIGNATURE: SECRET, "plaintext": '"it\'s"'}
    module = written(bench, resource("a:b:D", "one", custom=True, inputs={"env": {"KEY": hidden}}))
    assert """{'env': {'KEY': secret("it's")}}""" in module


def test_the_engines_own_resources_are_not_written_and_exports_are(bench: Any) -> None:
    stack = resource("pulumi:pulumi:Stack", "platform-bench", outputs={"url": "http://h"})
    module = written(bench, stack, resource("pulumi:providers:mlops", "default", custom=True))
    assert "Resource(" not in module.split("secret = ")[1]
    assert "pulumi.export('url', 'http://h')" in module


def test_a_figure_above_its_limit_is_missed(bench: Any) -> None:
    assert bench.at_most("a", 1.1, 1.1, "ratio", []).met
    assert not bench.at_most("a", 1.2, 1.1, "ratio", []).met
    assert bench.at_most("seconds", 300.0, None, "s", []).met


def test_the_command_that_the_platform_shows_is_understood(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError):
        bench.predict("""curl -s http://127.0.0.1:9/invocations -H 'a: b' -d '{"a": 1}'""")


@pytest.mark.engine
def test_both_programs_of_a_cluster_register_the_same_resources(bench: Any, tmp_path: Path) -> None:
    cluster = importlib.import_module("infrastructure_kubernetes")
    plugins = bench.stubbed_plugins(tmp_path / "plugins")
    ours, theirs = cluster.pair(tmp_path, plugins, endpoints=2)
    expected = described(ours.state())
    assert {urn.split("::")[2].rsplit("$", 1)[-1] for urn in expected} >= {
        "kubernetes:apps/v1:Deployment", "kubernetes:apps/v1:StatefulSet", "mlops:index:Image",
        "mlops:kubernetes:Ready", "mlops:index:ServingEndpoint", "pulumi:providers:kubernetes",
    }  # fmt: skip
    same(described(theirs.state()), expected)
    # With one endpoint more by hand, as many resources as ours has.
    more = cluster.Project(tmp_path / "more", cluster.config_of("cluster", 3), plugins)
    more.write(
        "resources.py", cluster.module_of_many(ours.state(), "endpoint-001", ["endpoint-002"])
    )
    more.write("__main__.py", cluster.PROGRAM)
    more.first_preview()
    components = cluster.Project(tmp_path / "same", cluster.config_of("cluster", 3), plugins)
    components.first_preview()
    assert cluster.planned(more) == cluster.planned(components)
