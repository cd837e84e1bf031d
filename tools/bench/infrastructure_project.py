"""A Pulumi project of its own: home, backend, passphrase, plugin and one stack."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = (REPOSITORY / "stacks" / "__main__.py").read_text()
STACK = "bench"


@dataclass(frozen=True)
class Cost:
    """What a command took, in seconds: as a person waits, and of all its processes' CPU."""

    wall: float
    cpu: float


class Project:
    """The files of `stacks/` and `pipelines/` in a folder of their own, with one stack."""

    def __init__(self, folder: Path, config: Mapping[str, Any], plugin: Path) -> None:
        if shutil.which("pulumi") is None:
            raise RuntimeError("there is no pulumi on PATH: `make bench` puts the engine there")
        self.folder = folder
        for part in ("stacks", "home", "state"):
            (folder / part).mkdir(parents=True)
        settings = yaml.safe_load((REPOSITORY / "Pulumi.yaml").read_text())
        settings["plugins"]["providers"] = [
            {"name": name, "path": str(plugin)}
            for name in ("mlops", "kubernetes")
            if (plugin / f"pulumi-resource-{name}").exists()
        ]
        (folder / "Pulumi.yaml").write_text(yaml.safe_dump(settings))
        self.write("__main__.py", PROGRAM)
        self.write(f"Pulumi.{STACK}.yaml", yaml.safe_dump({"config": dict(config)}))
        shutil.copytree(REPOSITORY / "pipelines", folder / "pipelines")
        self._env = {
            **os.environ,
            "PATH": f"{executable_folder()}{os.pathsep}{os.environ['PATH']}",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "benchmark",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }
        self.pulumi("stack", "init", STACK)

    def write(self, name: str, text: str) -> None:
        """Write a file of the program's folder."""
        (self.folder / "stacks" / name).write_text(text)

    def pulumi(self, *arguments: str, env: Mapping[str, str] = MappingProxyType({})) -> Cost:
        """Run `pulumi <arguments>` on the stack. Raises RuntimeError with the end of its output."""
        log = self.folder / "pulumi.log"
        before, started = _children(), time.perf_counter()
        with log.open("w") as output:
            done = subprocess.run(
                [*_command(*arguments), "--non-interactive", "--color", "never"],
                cwd=self.folder, env={**self._env, **env}, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, check=False, timeout=900,
            )  # fmt: skip
        cost = Cost(time.perf_counter() - started, _children() - before)
        if done.returncode != 0:
            raise RuntimeError(f"pulumi {' '.join(arguments)}:\n{log.read_text()[-5000:]}")
        return cost

    def preview(self) -> Cost:
        """A preview, which must find nothing to do."""
        return self.pulumi("preview", "--expect-no-changes")

    def first_preview(self) -> Cost:
        """A preview of a stack that is not up: everything is new."""
        return self.pulumi("preview")

    def up(self) -> Cost:
        """An update alone, without the preview before it."""
        return self.pulumi("up", "--yes", "--skip-preview")

    def create(self) -> Cost:
        """The first update of a stack, which writes the state once at its end.

        Otherwise the engine writes the whole state twice for each resource. With 200 endpoints that
        is most of the CPU time of any program, and would hide what the program itself takes.
        """
        skip = {"PULUMI_EXPERIMENTAL": "true", "PULUMI_SKIP_CHECKPOINTS": "true"}
        return self.pulumi("up", "--yes", "--skip-preview", env=skip)

    def destroy(self) -> Cost:
        """Delete every resource; the stack stays."""
        return self.pulumi("destroy", "--yes", "--skip-preview")

    def state(self) -> dict[str, Any]:
        """The stack's state, secrets in plain text."""
        return self._json("stack", "export", "--show-secrets")

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, secrets in plain text."""
        return self._json("stack", "output", "--json", "--show-secrets")

    def _json(self, *arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            _command(*arguments), cwd=self.folder, env=self._env, capture_output=True, check=True
        )
        return cast("dict[str, Any]", json.loads(done.stdout))


def config_of(environment: str, endpoints: int | None = None) -> dict[str, Any]:
    """A committed configuration; with so many endpoints like its one, when told."""
    file = REPOSITORY / "stacks" / f"Pulumi.{environment}.yaml"
    config = dict(yaml.safe_load(file.read_text())["config"])
    if endpoints is not None:
        (like,) = config["platform:endpoints"].values()
        config["platform:endpoints"] = {f"endpoint-{n:03}": like for n in range(endpoints)}
    return config


def executable_folder() -> Path:
    """Where the installed plugin's executable is."""
    return Path(sys.executable).parent


def stubbed_plugins(folder: Path) -> Path:
    """A folder with the plugins' executables, as infrastructure_plugin.py and
    infrastructure_kubernetes_plugin.py have them."""
    folder.mkdir()
    modules = {"mlops": "infrastructure_plugin", "kubernetes": "infrastructure_kubernetes_plugin"}
    for name, module in modules.items():
        executable = folder / f"pulumi-resource-{name}"
        executable.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            f"from {module} import main\n"
            "main([each for each in sys.argv[1:] if not each.startswith('-')][0])\n"
        )
        executable.chmod(0o755)
    return folder


def _command(*arguments: str) -> list[str]:
    target = [] if arguments[:2] == ("stack", "init") else ["--stack", STACK]
    return ["pulumi", *arguments, *target]


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
