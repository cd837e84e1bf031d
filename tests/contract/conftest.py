"""Fixtures of the contract suite: those of tests/graph, and the toy target as a wheel."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pulumi_mlops.targets import registry

_TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent))


def _load(name: str, path: Path) -> object:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


graph = _load("contract_graph_fixtures", _TESTS / "graph" / "conftest.py")
project = graph.project  # type: ignore[attr-defined]
provision = graph.provision  # type: ignore[attr-defined]
outputs_show_no_text = graph._outputs_show_no_text  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def toy_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of the toy target installed, built without the network."""
    folder = tmp_path_factory.mktemp("toy")
    source = _TESTS / "toy_target"
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=source, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    # A wheel of pure Python is installed by unpacking it ("Binary distribution format").
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
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
