"""The wheel, and the example project on it: outside the checkout, in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from uv import find_uv_bin

from pulumi_mlops.stackdir import StackDir

sys.path.insert(0, str(Path(__file__).parent))
from platform_project import belonging_to, claims

pytestmark = pytest.mark.engine

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "components" / "pulumi_mlops"
EXAMPLE = REPOSITORY / "examples" / "compose"


def uv(*arguments: object) -> None:
    env = dict(os.environ)
    env.pop("VIRTUAL_ENV", None)
    # uv does not read pip's setting of the package index.
    if (index := env.get("PIP_INDEX_URL")) and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & set(env):
        env["UV_DEFAULT_INDEX"] = index
    done = subprocess.run(
        [find_uv_bin(), *map(str, arguments), "--color", "never"],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--wheel", "--out-dir", folder, REPOSITORY)
    (file,) = folder.glob("*.whl")
    return file


def test_the_wheel_has_the_package_with_its_files_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert package == {
        file.relative_to(PACKAGE.parent).as_posix()
        for file in PACKAGE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {"pulumi_mlops/py.typed", "pulumi_mlops/runtime/requirements-model-server.txt",
            "pulumi_mlops/runtime/monitor/static/monitor.js"} <= package  # fmt: skip


def test_the_wheel_says_what_it_needs_and_brings(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        about = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        entries = archive.read(f"{info}/entry_points.txt").decode()
        assert f"{info}/licenses/LICENSE" in archive.namelist()
    assert about["Name"] == "pulumi-mlops"
    needed = [line for line in about.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert any(line.startswith("pulumi<4,>=") for line in needed)
    # What only tests and sample pipelines use is nothing that a user has to install.
    assert not [line for line in needed if line.startswith(("mlflow", "pytest", "scikit-learn"))]
    assert "pulumi-resource-mlops = pulumi_mlops.plugin.__main__:main" in entries


@dataclass
class Example:
    """The example in a folder of its own."""

    folder: Path
    env: Mapping[str, str]
    decoys: Path

    def pulumi(self, *arguments: str) -> str:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive", "--color", "never"],
            cwd=self.folder, env=self.env, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"pulumi {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def outputs(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.pulumi("stack", "output", "--json", "--show-secrets")
        )
        return found

    def files(self) -> StackDir:
        return StackDir(self.folder / ".mlops" / "dev")

    def left(self) -> list[str]:
        """Processes, ports, files and sockets of the stack, each in words."""
        stack = self.files()
        sockets = Path("/tmp") / f"mlops-{os.getuid()}-{stack.key}"
        return [
            *(
                f"process {each.pid}: {' '.join(each.cmdline())}"
                for each in belonging_to(self.folder)
            ),
            *(f"port {claim}" for claim in claims(self.folder)),
            *(str(path) for path in (self.folder / ".mlops", sockets) if path.exists()),
        ]


@pytest.fixture(scope="module")
def example(
    engine: None, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Example]:
    """The steps of the example's README; the stack is destroyed whatever becomes of the tests."""
    folder = tmp_path_factory.mktemp("elsewhere") / "compose"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".*"))
    venv = folder / ".venv"
    uv("venv", "--python", sys.executable, venv)
    # pip: the language host lists the environment's packages with it.
    uv("pip", "install", "--python", venv / "bin" / "python", wheel, "pip")
    decoys = folder.parent / "decoys"
    decoys.mkdir()
    for name in ("python", "pulumi-resource-mlops"):
        decoy = decoys / name
        decoy.write_text('#!/bin/sh\necho "$0 $*" >>"$(dirname "$0")/called"\nexit 1\n')
        decoy.chmod(0o755)
    found = Example(
        folder,
        {
            **{key: value for key, value in os.environ.items() if not key.startswith("PULUMI_")},
            "PATH": f"{decoys}:{venv}/bin:{os.environ['PATH']}",
            "PULUMI_HOME": str(folder.parent / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder.parent}",
            "PULUMI_CONFIG_PASSPHRASE": "correct horse battery staple",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        },
        decoys,
    )
    found.pulumi("stack", "init", "dev")
    try:
        yield found
    finally:
        found.pulumi("destroy", "--yes", "--skip-preview")


def supervisor(example: Example) -> psutil.Process:
    (only,) = [
        process
        for process in belonging_to(example.folder)
        if "supervisor.supervisord" in process.cmdline()
    ]
    return only


def test_the_example_comes_up_changes_and_goes(example: Example) -> None:
    example.pulumi("up", "--yes", "--skip-preview")

    outputs = example.outputs()
    assert outputs["artifact_store"] == "s3://models"
    assert outputs["line"]["slope"] == 3
    client = httpx.Client(base_url=outputs["tracking_url"], trust_env=False)
    first = outputs["line"]["run_id"]
    run = client.get("/api/2.0/mlflow/runs/get", params={"run_id": first}).json()["run"]
    assert run["info"]["status"] == "FINISHED"
    assert {"key": "points", "value": "200"} in run["data"]["params"]
    files = client.get("/api/2.0/mlflow/artifacts/list", params={"run_id": first}).json()["files"]
    assert [file["path"] for file in files] == ["line.json"]

    # The plugin has run on the interpreter of this environment and on no other.
    python = example.folder / ".venv" / "bin" / "python"
    assert Path(supervisor(example).cmdline()[0]).parent == python.parent
    assert not (example.decoys / "called").exists()

    # A changed parameter runs the pipeline again, and that is all.
    example.pulumi("config", "set", "points", "50")
    running = {process.pid for process in belonging_to(example.folder)}
    steps = json.loads(example.pulumi("preview", "--json"))["steps"]
    changed = {step["urn"].rsplit(":", 1)[-1]: step["op"] for step in steps if step["op"] != "same"}
    assert changed == {"line-job": "update"}
    example.pulumi("up", "--yes", "--skip-preview")
    assert example.outputs()["line"]["run_id"] != first
    assert {process.pid for process in belonging_to(example.folder)} == running

    example.pulumi("destroy", "--yes", "--skip-preview")
    assert example.left() == []
    assert not (example.decoys / "called").exists()
