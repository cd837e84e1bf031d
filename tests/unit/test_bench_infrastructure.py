"""The benchmark compares like with like: both programs register the same resources."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
from google.protobuf import json_format
from pulumi.runtime.mocks import MockMonitor, Mocks, set_mocks

BENCH = Path(__file__).resolve().parents[2] / "tools" / "bench"
SIGNATURE, SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
URN = "urn:pulumi:bench::platform::{}::{}"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    sys.path.insert(0, str(BENCH))
    yield importlib.import_module("infrastructure")
    sys.path.remove(str(BENCH))


def described(state: dict[str, Any]) -> dict[str, Any]:
    """By URN (stack, project, types of all parents, name): all but times and places in the code."""
    # The two programs are in two folders.
    text = re.sub(r'"[^"]*/\.mlops/', '"/project/.mlops/', json.dumps(state))
    return {
        each["urn"]: {
            key: sorted(value) if key == "dependencies" else value
            for key, value in each.items()
            if key not in {"created", "modified", "sourcePosition", "stackTrace", "id",
                           "propertyDependencies", "provider"}
        }
        for each in json.loads(text)["deployment"]["resources"]
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


class Requests(MockMonitor):
    """The requests that a program sends to the engine, by the resource's name."""

    def __init__(self) -> None:
        super().__init__(NoOutputs())
        self.sent: dict[str, Any] = {}

    def RegisterResource(self, request: Any) -> Any:
        if request.type != "pulumi:pulumi:Stack":
            self.sent[request.name] = request
        return super().RegisterResource(request)


class NoOutputs(Mocks):
    def call(self, args: Any) -> tuple[dict[str, Any], None]:
        return {}, None

    def new_resource(self, args: Any) -> tuple[str, dict[str, Any]]:
        return args.name, {}


def registered(module: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a written program registers, and under "exports" the stack's outputs."""
    monitor = Requests()
    exports: dict[str, Any] = {}
    monkeypatch.setattr(pulumi, "export", exports.__setitem__)
    pulumi.runtime.settings.ROOT.set(None)
    set_mocks(NoOutputs(), project="platform", stack="bench", monitor=monitor)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> None:
        exec(compile(module, "resources.py", "exec"), {"__name__": "resources"})

    program()
    return {**monitor.sent, "exports": exports}


def state_of(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"deployment": {"resources": list(resources)}}


def test_a_resource_keeps_its_parent_dependencies_inputs_and_options(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = resource("a:b:C", "top")
    first = resource("a:b:D", "one", custom=True, inputs={}, parent=parent["urn"])
    second = resource(
        "a:b:D", "two", custom=True, inputs={"list": [1, True, None]}, parent=parent["urn"],
        dependencies=[first["urn"]], retainOnDelete=True,
    )  # fmt: skip
    requests = registered(bench.module_of(state_of(parent, first, second)), monkeypatch)
    assert set(requests) == {"top", "one", "two", "exports"}
    assert not requests["top"].custom
    two = requests["two"]
    assert two.custom and two.type == "a:b:D" and two.retainOnDelete
    assert two.parent.endswith("a:b:C::top")
    assert [urn.rsplit("::", 1)[-1] for urn in two.dependencies] == ["one"]
    assert json_format.MessageToDict(two.object) == {"list": [1.0, True, None]}


def test_an_option_of_a_parent_is_not_inherited(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = resource("a:b:D", "top", custom=True, protect=True, retainOnDelete=True)
    child = resource("a:b:D", "one", custom=True, parent=parent["urn"])
    requests = registered(bench.module_of(state_of(parent, child)), monkeypatch)
    assert requests["top"].protect and requests["top"].retainOnDelete
    assert not requests["one"].protect and not requests["one"].retainOnDelete


def test_a_secret_stays_one(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = {SIGNATURE: SECRET, "plaintext": '"it\'s"'}
    one = resource("a:b:D", "one", custom=True, inputs={"env": {"KEY": hidden}})
    requests = registered(bench.module_of(state_of(one)), monkeypatch)
    value = json_format.MessageToDict(requests["one"].object)["env"]["KEY"]
    assert value == {SIGNATURE: SECRET, "value": "it's"}


def test_resources_of_the_engine_are_left_out_and_stack_outputs_are_exported(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = resource("pulumi:pulumi:Stack", "platform-bench", outputs={"url": "http://h"})
    default = resource("pulumi:providers:mlops", "default", custom=True)
    requests = registered(bench.module_of(state_of(stack, default)), monkeypatch)
    assert requests == {"exports": {"url": "http://h"}}


def test_an_endpoint_is_repeated_for_each_name(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = resource("a:b:C", "platform-endpoint-001-endpoint")
    service = resource(
        "a:b:D", "platform-endpoint-001-endpoint-v1", custom=True, parent=endpoint["urn"],
        inputs={"label": "endpoint-001"},
    )  # fmt: skip
    monitor = resource("a:b:D", "platform-monitor", custom=True, dependencies=[service["urn"]])
    written = importlib.import_module("infrastructure_written")
    state = state_of(endpoint, service, monitor)
    module = written.module_of_many(state, "endpoint-001", ["endpoint-002"])
    requests = registered(module, monkeypatch)
    labels = {
        name: request.object["label"] for name, request in requests.items() if name.endswith("-v1")
    }
    assert labels == {
        f"platform-{name}-endpoint-v1": name for name in ("endpoint-001", "endpoint-002")
    }
    assert requests["platform-endpoint-002-endpoint-v1"].parent.endswith(
        "::platform-endpoint-002-endpoint"
    )
    assert len(requests["platform-monitor"].dependencies) == 1


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
