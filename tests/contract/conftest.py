"""Fixtures of the contract suite: those of tests/graph and tests/engine, and the toy wheel."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from pulumi_mlops.targets import registry

_TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent))


def _load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


graph = _load("contract_graph_fixtures", _TESTS / "graph" / "conftest.py")
project = graph.project
provision = graph.provision
outputs_show_no_text = graph._outputs_show_no_text

with_engine = _load("contract_engine_fixtures", _TESTS / "engine" / "conftest.py")
engine = with_engine.engine
places = with_engine.places
engine_project = with_engine.project


@pytest.fixture(scope="session")
def toy_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of the toy target installed, built without the network."""
    folder = tmp_path_factory.mktemp("toy")
    source = _TESTS / "toy_target"
    uv = [find_uv_bin(), "--quiet", "--offline"]
    # uv has this build backend built in, and installs nothing that the wheel depends on.
    subprocess.run([*uv, "build", "--wheel", "--out-dir", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    install = ["pip", "install", "--no-deps", "--python", sys.executable, "--target", str(site)]
    subprocess.run([*uv, *install, str(wheel)], check=True)
    return site


@pytest.fixture
def toy_installed(toy_site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toy target beside the package, in this process."""
    monkeypatch.syspath_prepend(str(toy_site))
    registry._entry_points.cache_clear()
    assert "toy" in {point.name for point in entry_points(group=registry.GROUP)}
    yield
    registry._entry_points.cache_clear()


@pytest.fixture
def toy_environment(toy_site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy target beside the package, in every process that a test starts."""
    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(toy_site), known])))
