"""Programs on Pulumi's mocks: what they register, with which options, and what is a secret."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pytest
from google.protobuf import json_format
from pulumi.runtime import rpc
from pulumi.runtime.mocks import MockMonitor, MockResourceArgs, Mocks, set_mocks

UNKNOWN = rpc.UNKNOWN
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"


@dataclass(frozen=True)
class Secret:
    """A value that was marked as a secret at just this place."""

    value: Any


@dataclass(frozen=True)
class Registered:
    """A resource as the engine was asked for it."""

    urn: str
    type: str
    name: str
    parent: str
    inputs: dict[str, Any]
    protect: bool
    retain_on_delete: bool
    delete_before_replace: bool
    ignore_changes: frozenset[str]
    depends_on: frozenset[str]
    provider: str


@dataclass(frozen=True)
class Seen:
    """What an output turned out to be."""

    value: Any
    secret: bool
    known: bool


@dataclass
class Graph:
    """Everything that a program registered."""

    all: dict[str, Registered]
    result: Any = None

    def __getitem__(self, name: str) -> Registered:
        """The custom resource, or else the component, with this name."""
        found = [each for each in self.all.values() if each.name == name]
        custom = [each for each in found if not each.type.startswith("mlops:index:")]
        (only,) = custom or found
        return only

    def of(self, kind: str) -> dict[str, Registered]:
        """The resources of one type, by name."""
        return {each.name: each for each in self.all.values() if each.type == kind}

    def urns(self) -> list[str]:
        return sorted(self.all)


class _Engine(Mocks):
    """Gives the outputs that the plugin would; in a preview none of them is known."""

    def __init__(self, preview: bool) -> None:
        self._preview = preview
        self._port = 20000

    def call(self, args: Any) -> tuple[dict[str, Any], None]:
        return {}, None

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        outputs = {} if self._preview else self._outputs(args.typ, args.name, args.inputs)
        return f"{args.name}.1", {**args.inputs, **outputs}

    def _outputs(self, kind: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        match kind:
            case "mlops:s3:Bucket":
                return {"uri": f"s3://{inputs['bucket']}", "arn": "arn"}
            case "mlops:mlflow:ModelVersion":
                outputs = {"source": "models:/m", "runId": "run", "example": None}
                if inputs.get("readRequirements"):
                    stored = ["mlflow==2.12.2", f"scikit-learn==1.4.{inputs['version']}"]
                    outputs |= {"requirements": stored, "python": "3.10"}
                return outputs
            case "mlops:local:Environment":
                return {"path": f"/envs/{name}", "codePath": f"/code/{name}", "status": "ready"}
            case "mlops:local:FetchedFiles":
                return {"path": f"/fetched/{name}", "status": "complete"}
            case "mlops:local:Process":
                addresses = {}
                for port in inputs["ports"]:
                    count = int(inputs.get("replicas") or 1)
                    self._port += count
                    addresses[port] = [f"127.0.0.1:{self._port + index}" for index in range(count)]
                url = f"http://{(addresses.get('http') or next(iter(addresses.values())))[0]}"
                return {"url": url, "addresses": addresses, "status": "running", "logs": []}
            case "mlops:local:Run":
                return {"outputs": {"version": "1"}, "log": "/logs/run"}
            case "mlops:local:Route":
                return {"url": f"http://route/{name}", "metricsUrl": "http://route/metrics"}
            case "mlops:local:Secret":
                return {"value": f"generated-{name}", "status": "ready"}
            case "mlops:local:Volume":
                return {"path": f"/volumes/{name}"}
            case "mlops:index:GeneratedSecret":
                return {"value": f"generated-{name}"}
            case "mlops:kubernetes:ClusterIdentity":
                return {"identifier": "uid-of-kube-system", "facts": {"uid": "uid-of-kube-system"}}
            case "mlops:kubernetes:ExistingSecret":
                return {"value": f"postgresql://me:hush@db/{inputs['key']}"}
            case "mlops:kubernetes:Ready":
                outputs = {"version": "1"} if inputs["kind"] == "Job" else {}
                return {"outputs": outputs, "status": "ready"}
            case _ if kind.startswith("kubernetes:"):
                metadata = {**inputs["metadata"], "generation": 1, "uid": f"uid-{name}"}
                return {"metadata": metadata}
            case "mlops:local:File":
                return {"path": f"/files/{name}", "status": "ready"}
        return {}


class _Recorder(MockMonitor):
    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self.registered: dict[str, Registered] = {}

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        """With the types of all parents but the stack, as the engine does it."""
        above = parent.split("::")[2] if parent else ""
        qualified = type_ if above in ("", "pulumi:pulumi:Stack") else f"{above}${type_}"
        return f"urn:pulumi:dev::project::{qualified}::{name}"

    def RegisterResource(self, request: Any) -> Any:
        answer = super().RegisterResource(request)
        if request.type != "pulumi:pulumi:Stack":
            assert answer.urn not in self.registered, f"two resources are {answer.urn}"
            self.registered[answer.urn] = Registered(
                urn=answer.urn,
                type=request.type,
                name=request.name,
                parent=request.parent,
                inputs=_plain(json_format.MessageToDict(request.object)),
                protect=request.protect,
                retain_on_delete=request.retainOnDelete,
                delete_before_replace=request.deleteBeforeReplace,
                ignore_changes=frozenset(request.ignoreChanges),
                depends_on=frozenset(request.dependencies),
                provider=request.provider,
            )
        return answer


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get(_SIGNATURE) == _SECRET:
            return Secret(_plain(value["value"]))
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a pipeline in `train`, and the working folder that Pulumi would choose."""
    for name, text in {
        "Pulumi.yaml": "name: project\n",
        "stacks/__main__.py": "",
        "train/run.py": "print('trained')\n",
        "train/requirements.txt": (
            "# what it takes\nscikit-learn==1.7.2  # the model\n\nmlflow==3.17.2\n"
        ),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path / "stacks")
    return tmp_path


Program = Callable[[], Any]
Provision = Callable[..., Graph]


@pytest.fixture(autouse=True)
def _outputs_show_no_text(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An output in an f-string is an error, and no test leaves its configuration behind."""
    monkeypatch.setitem(os.environ, "PULUMI_ERROR_OUTPUT_STRING", "1")
    before = pulumi.runtime.config.CONFIG.get()
    yield
    pulumi.runtime.config.CONFIG.set(before)


@pytest.fixture
def provision() -> Provision:
    """Runs a program; its graph, and in `result` what the outputs that it returned turned out to
    be (a Seen each, by name)."""

    def run(
        program: Program, config: Mapping[str, str] | None = None, *, preview: bool = False
    ) -> Graph:
        monitor = _Recorder(_Engine(preview))
        # A stack of its own, as each program has it: the mocks would go on with the one before.
        pulumi.runtime.settings.ROOT.set(None)
        set_mocks(
            _Engine(preview), project="project", stack="dev", preview=preview, monitor=monitor
        )
        pulumi.runtime.config.CONFIG.set(dict(config or {}))
        seen: dict[str, Seen] = {}

        async def look(returned: Mapping[str, Any]) -> None:
            for name, item in returned.items():
                output = pulumi.Output.from_input(item)
                seen[name] = Seen(
                    await output.future(with_unknowns=False),
                    await output.is_secret(),
                    await output.is_known(),
                )

        # Waits for every registration and every apply, and raises what one of them raised.
        @pulumi.runtime.test  # type: ignore[untyped-decorator]
        def wait() -> Any:
            returned = program()
            return look(returned if isinstance(returned, dict) else {})

        wait()
        return Graph(monitor.registered, seen)

    return run
