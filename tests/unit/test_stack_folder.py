"""Resources whose files are in another stack folder, as after `pulumi stack rename`."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from pulumi.provider.experimental import provider as api

from pulumi_mlops.plugin.dispatch import MlopsProvider
from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.plugin.handlers import SharedResources
from pulumi_mlops.plugin.values import to_property
from pulumi_mlops.targets.local.resources import LocalResources

HANDLERS = {each.token: each for each in LocalResources().handlers()}
INPUTS: dict[str, dict[str, Any]] = {
    "mlops:local:Environment": {"requirements": []},
    "mlops:local:FetchedFiles": {"command": ["fetch"]},
    "mlops:local:Process": {"command": ["serve"]},
    "mlops:local:Route": {"endpoint": "e", "services": {}},
    "mlops:local:Run": {"command": ["run"]},
    "mlops:local:Secret": {},
    "mlops:local:Volume": {"retain": False},
}
OUTPUTS: dict[str, dict[str, Any]] = {
    "mlops:local:Environment": {"path": "envs/it.1/venv", "codePath": "envs/it.1/code/0"},
    "mlops:local:FetchedFiles": {"path": "fetched/it.1/files", "status": "complete"},
    "mlops:local:Process": {"logs": ["logs/it-0.log"], "status": "running"},
    "mlops:local:Route": {"logs": ["logs/it.route.log"], "status": "running"},
    "mlops:local:Run": {"log": "logs/it.log", "outputs": {}},
    "mlops:local:Secret": {"path": "secrets/it", "value": "v", "status": "present"},
    "mlops:local:Volume": {"path": "volumes/it"},
}


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlopsProvider:
    (tmp_path / "Pulumi.yaml").write_text("name: p\n")
    monkeypatch.chdir(tmp_path)
    sets = [SharedResources(), LocalResources()]
    return MlopsProvider(sets, "1", lambda *_, **__: None)


def recorded(token: str, folder: Path) -> dict[str, Any]:
    def absolute(value: Any) -> Any:
        if isinstance(value, list):
            return [absolute(each) for each in value]
        return str(folder / value) if isinstance(value, str) and "/" in value else value

    return {key: absolute(value) for key, value in OUTPUTS[token].items()}


def requests(provider: MlopsProvider, token: str, state: dict[str, Any]) -> list[Any]:
    """A preview, a refresh and a deletion of the stack `new`."""
    urn = f"urn:pulumi:new::p::{token}::it"
    inputs = {key: to_property(value) for key, value in INPUTS[token].items()}
    olds = inputs | {key: to_property(value) for key, value in state.items()}
    return [
        provider.diff(api.DiffRequest(urn, "it", olds, inputs, [])),
        provider.read(api.ReadRequest(urn, "it", olds, inputs)),
        provider.update(api.UpdateRequest(urn, "it", olds, inputs, 0.0, [], False)),
        provider.delete(api.DeleteRequest(urn, "it", olds, 0.0)),
    ]


def test_every_resource_with_files_is_covered() -> None:
    assert set(HANDLERS) == set(INPUTS) == set(OUTPUTS)
    assert all(each.path_output for each in HANDLERS.values())


@pytest.mark.parametrize("token", INPUTS)
def test_a_renamed_stack_is_refused(token: str, provider: MlopsProvider, tmp_path: Path) -> None:
    folder = tmp_path / ".mlops" / "old"
    folder.mkdir(parents=True)
    (folder / "kept").touch()
    for request in requests(provider, token, recorded(token, folder)):
        with pytest.raises(ResourceError) as refusal:
            asyncio.run(request)
        text = str(refusal.value)
        assert f"the files of it are in {folder}, but" in text
        assert "`pulumi stack rename old`" in text
    assert [each.name for each in folder.iterdir()] == ["kept"]
    assert not (tmp_path / ".mlops" / "new").exists()


def test_a_moved_project_is_not(provider: MlopsProvider, tmp_path: Path) -> None:
    """Its former folder does not exist: what is missing is made again."""
    folder = tmp_path / "former" / ".mlops" / "old"
    token = "mlops:local:Volume"
    for request in requests(provider, token, recorded(token, folder)):
        asyncio.run(request)
    shutil.rmtree(tmp_path / ".mlops", ignore_errors=True)
