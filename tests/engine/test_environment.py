"""Python environments with uv: local projects, constraints, interpreters, and lost environments."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.files import remove_tree
from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.plugin.handler import Context
from pulumi_mlops.plugin.values import UNKNOWN
from pulumi_mlops.sources import digest
from pulumi_mlops.stackdir import StackDir
from pulumi_mlops.targets.local.host import uv
from pulumi_mlops.targets.local.resources.environment import EnvironmentHandler, EnvironmentInputs

pytestmark = pytest.mark.engine
HANDLER = EnvironmentHandler()


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(
        urn="urn:pulumi:test::mlops::mlops:local:Environment::env",
        name="env",
        stack="test",
        project="mlops",
        root=StackDir(tmp_path / "stack"),
        log=lambda *args, **kwargs: None,
        cancelled=threading.Event(),
    )


def inputs(requirements: Any, **more: Any) -> EnvironmentInputs:
    return EnvironmentInputs.model_validate({"requirements": requirements, **more})


def projects(**paths: Path) -> dict[str, dict[str, str]]:
    return {name: {"path": str(path), "digest": digest(path)} for name, path in paths.items()}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "mylib"
    (folder / "mylib").mkdir(parents=True)
    (folder / "mylib" / "__init__.py").write_text("VALUE = 1\n")
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "mylib"\nversion = "1.2"\ndependencies = ["idna>=3"]\n'
        '[project.optional-dependencies]\nextra = ["certifi"]\n'
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    )
    return folder


def imported(path: str, code: str) -> str:
    done = subprocess.run(
        [f"{path}/bin/python", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_local_project_is_built_from_a_copy(ctx: Context, library: Path) -> None:
    new = inputs(
        ["./projects/mylib[extra]"], constraints=["idna<3.8"], projects=projects(mylib=library)
    )
    before = digest(library)
    assert HANDLER.preview(ctx, new, None) == {"status": "ready"}
    _, outputs = HANDLER.create(ctx, new)
    names = {line.split("==")[0] for line in outputs["packages"]}
    assert names == {"mylib", "idna", "certifi"}
    version = imported(outputs["path"], "import mylib, idna; print(mylib.VALUE, idna.__version__)")
    value, idna = version.split()
    assert value == "1"
    assert tuple(map(int, idna.split("."))) < (3, 8)
    assert digest(library) == before
    assert sorted(entry.name for entry in library.iterdir()) == ["mylib", "pyproject.toml"]


def test_the_content_of_a_local_project_is_a_change_and_its_path_is_not(
    ctx: Context, library: Path
) -> None:
    new = inputs(["./projects/mylib"], projects=projects(mylib=library))
    old = new.model_dump(by_alias=True)
    moved = library.rename(library.parent / "moved")
    assert (
        HANDLER.replaces({"projects"}, old, inputs(["x"], projects=projects(mylib=moved))) == set()
    )
    (moved / "mylib" / "__init__.py").write_text("VALUE = 2\n")
    assert HANDLER.replaces({"projects"}, old, inputs(["x"], projects=projects(mylib=moved))) == {
        "projects"
    }


@pytest.mark.parametrize("broken", ["", "no package", "setup.py"])
def test_a_project_that_does_not_build_is_refused_at_preview(
    ctx: Context, library: Path, broken: str
) -> None:
    file = library / "pyproject.toml"
    if broken == "no package":
        remove_tree(library / "mylib")
    elif broken == "setup.py":
        file.unlink()
        (library / "setup.py").write_text("raise SystemExit(3)\n")
    else:
        file.write_text(file.read_text().replace('"1.2"', "1.2"))
    with pytest.raises(ResourceError, match="requirements do not resolve") as refused:
        HANDLER.preview(ctx, inputs(["./projects/mylib"], projects=projects(mylib=library)), None)
    assert "mlops-requirements-" not in str(refused.value)


def test_constraints_that_contradict_are_refused_at_preview(ctx: Context) -> None:
    new = inputs(["idna>=3"], constraints=["idna<3"])
    with pytest.raises(ResourceError, match="No solution found"):
        HANDLER.preview(ctx, new, None)


def test_unknown_requirements_are_resolved_by_the_update(ctx: Context) -> None:
    assert HANDLER.preview(ctx, inputs(UNKNOWN, python=UNKNOWN), None) == {"status": "ready"}
    assert HANDLER.check(ctx, inputs(UNKNOWN, python=UNKNOWN)) == []


def test_a_lost_environment_gets_the_same_packages_again(ctx: Context) -> None:
    """A newer version in the index is a change that no preview has shown."""
    resource_id, outputs = HANDLER.create(ctx, inputs(["idna"], constraints=["idna<3.8"]))
    state = {**inputs(["idna"]).model_dump(by_alias=True), **outputs}
    remove_tree(Path(outputs["path"]))
    assert HANDLER.drift(ctx, resource_id, state) == {"status": "missing"}
    again = HANDLER.update(ctx, resource_id, state, inputs(["idna"]))
    assert again["packages"] == outputs["packages"]
    assert HANDLER.drift(ctx, resource_id, {**state, **again}) == {}


def test_a_python_version_that_is_not_here_is_refused_with_those_that_are(ctx: Context) -> None:
    ((where, problem),) = HANDLER.check(ctx, inputs(["idna"], python="3.2"))
    assert where == "python"
    assert problem.startswith("Python 3.2 is not on this machine, which has 3.")


def test_versions_of_pyenv_are_found_behind_its_shims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shim fails for every version that is not selected, and uv stops at the first failure."""
    root = tmp_path / "pyenv"
    for name in ("3.9.18", "3.12.1", "myenv"):
        (root / "versions" / name / "bin").mkdir(parents=True)
    (root / "shims").mkdir()
    monkeypatch.setenv("PATH", os.pathsep.join(["/first", str(root / "shims"), "/last"]))
    assert uv.search_environment()["PATH"].split(os.pathsep) == [
        "/first",
        str(root / "versions" / "3.12.1" / "bin"),
        str(root / "versions" / "3.9.18" / "bin"),
        "/last",
    ]
