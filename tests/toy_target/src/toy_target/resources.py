"""Handlers of the target in the resource plugin."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from uv import find_uv_bin

from pulumi_mlops.files import read_json, remove_tree, write_private
from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.plugin.handler import Context, Handler, Inputs, OutputField, ResourceSet
from pulumi_mlops.plugin.values import OrUnknown, known_text

from . import processes


class EnvironmentInputs(Inputs):
    """Requirements, and folders of code by their import path."""

    requirements: list[str] = Field([], description="Requirements of pip.")
    python: str | None = Field(None, description="Version of Python.")
    code: dict[str, dict[str, str]] = Field({}, description="Folders of code and their digests.")
    version: str = Field(description="Digest of the requirements and the code.")


class EnvironmentHandler(Handler[EnvironmentInputs]):
    """`toy/environments/<name>`, made anew when an input changes."""

    token = "mlops:toy:Environment"
    description = "A virtual environment and a copy of code."
    inputs = EnvironmentInputs
    outputs: ClassVar[dict[str, OutputField]] = {"path": OutputField(str, "Path of the folder.")}

    def preview(
        self, ctx: Context, new: EnvironmentInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        return {"path": str(_environment(ctx))}

    def create(self, ctx: Context, new: EnvironmentInputs) -> tuple[str, dict[str, Any]]:
        path = _environment(ctx)
        remove_tree(path)
        path.mkdir(parents=True)
        python = ["--python", new.python] if new.python else []
        _run_uv("venv", "--quiet", *python, str(path / "venv"))
        if new.requirements:
            interpreter = str(path / "venv" / "bin" / "python")
            _run_uv("pip", "install", "--quiet", "--python", interpreter, *new.requirements)
        for place, code in new.code.items():
            shutil.copytree(code["path"], path / "code" / place)
        return ctx.name, {"path": str(path)}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: EnvironmentInputs
    ) -> dict[str, Any]:
        return self.create(ctx, new)[1]

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        return {} if _environment(ctx).exists() else None

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        remove_tree(_environment(ctx))
        _prune(ctx)


class ProgramInputs(Inputs):
    """A command in an environment."""

    command: list[OrUnknown[str]] = Field(min_length=1, description="Program and arguments.")
    env: dict[str, OrUnknown[str]] = Field({}, description="Environment variables.")
    environment: OrUnknown[str] = Field(description="Folder of the environment.")
    version: str = Field(description="Version of the environment.")


class HealthInputs(Inputs):
    """When a process is ready."""

    port: str = Field("http", description="Name of the port.")
    path: str | None = Field(None, description="HTTP path. Default: an open port is enough.")
    timeout: float = Field(120, gt=0, description="Seconds that a start may take.")


class ProcessInputs(ProgramInputs):
    """A program that keeps running."""

    ports: dict[str, int] = Field({"http": 0}, description="Port numbers. 0: an unused port.")
    files: dict[str, OrUnknown[str]] = Field({}, description="Private files in FILES_DIR.")
    data: OrUnknown[str] | None = Field(None, description="Folder in DATA_DIR.")
    health: HealthInputs = Field(HealthInputs(), description="When it is ready.")
    stop_seconds: float = Field(10, gt=0, description="Seconds between stop and kill.")


class ProcessHandler(Handler[ProcessInputs]):
    """A child process. A change restarts it on the same ports."""

    token = "mlops:toy:Process"
    description = "A child process that keeps running."
    inputs = ProcessInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "url": OutputField(str, "URL of the port `http`."),
        "addresses": OutputField(dict[str, list[str]], "Addresses by name of the port."),
        "status": OutputField(str, "`running` or `stopped`."),
    }

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        return {} if processes.is_running(ctx.root, resource_id) else {"status": "stopped"}

    def preview(
        self, ctx: Context, new: ProcessInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        if old is None or set(old["ports"]) != set(new.ports):
            return {"status": "running"}
        return {"url": old["url"], "addresses": old["addresses"], "status": "running"}

    def create(self, ctx: Context, new: ProcessInputs) -> tuple[str, dict[str, Any]]:
        try:
            return ctx.name, self._start(ctx, new, {})
        except BaseException:
            self.delete(ctx, ctx.name, {})
            raise

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: ProcessInputs
    ) -> dict[str, Any]:
        processes.stop(ctx.root, resource_id, float(old["stopSeconds"]))
        return self._start(ctx, new, old["addresses"])

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not processes.folder_of(ctx.root, resource_id).exists():
            return None
        running = processes.is_running(ctx.root, resource_id)
        return {"status": "running" if running else "stopped"}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        processes.stop(ctx.root, resource_id, float(old.get("stopSeconds", 10)))
        processes.remove(ctx.root, resource_id)
        _prune(ctx)

    def _start(
        self, ctx: Context, new: ProcessInputs, previous: dict[str, list[str]]
    ) -> dict[str, Any]:
        numbers = {
            name: number
            or (int(previous[name][0].rpartition(":")[2]) if name in previous else 0)
            or processes.free_port()
            for name, number in new.ports.items()
        }
        files = ctx.root.folder("toy", "programs", ctx.name, "files")
        for name, content in new.files.items():
            write_private(files / name, known_text(content))
        base = {
            "HOST": "127.0.0.1",
            "HOST_NAMES": "localhost,localhost:*,127.0.0.1,127.0.0.1:*",
            "RUNTIME_DIR": str(ctx.root.socket_folder(ctx.name)),
            "SPOOL_DIR": str(ctx.root.socket_folder(ctx.name) / "spool"),
            "FILES_DIR": str(files),
            **({"PORT": str(numbers["http"])} if "http" in numbers else {}),
            **{f"PORT_{name.upper().replace('-', '_')}": str(numbers[name]) for name in numbers},
            **({"DATA_DIR": known_text(new.data)} if new.data else {}),
        }
        environment, command, env = _program(new, base)
        processes.start(ctx.root, ctx.name, processes.command_line(environment, command, env), env)
        addresses = {name: [f"127.0.0.1:{number}"] for name, number in numbers.items()}
        processes.wait_until_ready(
            ctx.root, ctx.name, f"http://{addresses[new.health.port][0]}",
            new.health.path, new.health.timeout,
        )  # fmt: skip
        first = addresses.get("http") or addresses[new.health.port]
        return {"url": f"http://{first[0]}", "addresses": addresses, "status": "running"}


class RunInputs(ProgramInputs):
    """A program that runs to completion."""

    timeout: float = Field(3600, gt=0, description="Seconds that a run may take.")
    run_on_change: bool = Field(True, description="Whether an update runs it.")


class RunHandler(Handler[RunInputs]):
    """A run at each change."""

    token = "mlops:toy:Run"
    description = "A process that runs to completion."
    inputs = RunInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "outputs": OutputField(dict[str, Any], "Outputs of the last run.")
    }

    def create(self, ctx: Context, new: RunInputs) -> tuple[str, dict[str, Any]]:
        folder = _define(ctx, new)
        return ctx.name, {"outputs": run_job(folder) if new.run_on_change else {}}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: RunInputs
    ) -> dict[str, Any]:
        same = (old["command"], old["version"]) == (list(map(known_text, new.command)), new.version)
        if not same:
            return self.create(ctx, new)[1]
        # Changed variables start no run. The next run has them.
        _define(ctx, new)
        return {"outputs": old.get("outputs") or {}}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        remove_tree(ctx.root.path / "toy" / "jobs" / resource_id)
        _prune(ctx)


def _define(ctx: Context, new: RunInputs) -> Path:
    """Write the definition of a job, and return its folder."""
    folder = ctx.root.folder("toy", "jobs", ctx.name)
    environment, command, env = _program(new, {"MLOPS_OUTPUTS": str(folder / "outputs.json")})
    arguments = processes.command_line(environment, command, env)
    definition = {"command": arguments, "env": env, "timeout": new.timeout}
    write_private(folder / "job.json", json.dumps(definition))
    return folder


def run_job(folder: Path) -> dict[str, Any]:
    """Run the job of this folder and return its outputs. Raises ResourceError if it fails."""
    definition = read_json(folder / "job.json") or {}
    with (folder / "log").open("wb") as log:
        try:
            done = subprocess.run(
                definition["command"], env=definition["env"], cwd=folder, check=False,
                stdout=log, stderr=log, timeout=definition["timeout"],
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ResourceError(f"it has not ended after {definition['timeout']:g} s") from None
    if done.returncode:
        text = (folder / "log").read_text()[-2000:]
        raise ResourceError(f"it ended with exit code {done.returncode}:\n{text}")
    outputs: dict[str, Any] = read_json(folder / "outputs.json") or {}
    return outputs


class VolumeInputs(Inputs):
    """A folder of data."""

    retain: bool = Field(True, description="Whether the data outlives the resource.")


class VolumeHandler(Handler[VolumeInputs]):
    """`volumes/<name>` in the stack folder."""

    token = "mlops:toy:Volume"
    description = "A folder of data."
    inputs = VolumeInputs
    outputs: ClassVar[dict[str, OutputField]] = {"path": OutputField(str, "Path of the folder.")}

    def preview(
        self, ctx: Context, new: VolumeInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        return {"path": str(ctx.root.path / "volumes" / ctx.name)}

    def create(self, ctx: Context, new: VolumeInputs) -> tuple[str, dict[str, Any]]:
        return ctx.name, {"path": str(ctx.root.folder("volumes", ctx.name))}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: VolumeInputs
    ) -> dict[str, Any]:
        return {"path": old["path"]}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        if not old.get("retain", True):
            remove_tree(Path(old["path"]))
        _prune(ctx)


class ToyResources(ResourceSet):
    """Environments, processes, runs and volumes."""

    def handlers(self) -> list[Handler[Any]]:
        """One handler per resource type."""
        return [EnvironmentHandler(), ProcessHandler(), RunHandler(), VolumeHandler()]


def _environment(ctx: Context) -> Path:
    return ctx.root.path / "toy" / "environments" / ctx.name


def _program(new: ProgramInputs, base: dict[str, str]) -> tuple[str, list[str], dict[str, str]]:
    """The environment, the command and the variables of a program."""
    environment = known_text(new.environment)
    env = {name: known_text(value) for name, value in new.env.items()}
    command = [known_text(argument) for argument in new.command]
    return environment, command, processes.variables(environment, env, base)


def _run_uv(*arguments: str) -> None:
    done = subprocess.run([find_uv_bin(), *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise ResourceError(f"uv {arguments[0]} failed: {done.stderr.strip()[-2000:]}")


def _prune(ctx: Context) -> None:
    """Remove empty folders. Other resources may be created or deleted at the same time."""
    toy = ctx.root.path / "toy"
    for folder in (toy / "environments", toy / "programs", toy / "jobs", toy / "logs", toy):
        with contextlib.suppress(OSError):
            folder.rmdir()
    with ctx.root.lock("toy"):
        ctx.root.prune()
