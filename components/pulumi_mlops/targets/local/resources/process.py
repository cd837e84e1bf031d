"""`mlops:local:Process`: a supervised program of this machine, in one or more replicas."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from ....files import remove_tree, tail, write_private
from ....plugin.errors import ResourceError
from ....plugin.handler import Context, Handler, Inputs, OutputField
from ....plugin.values import Known, known_text
from ....stackdir import StackDir, is_generation
from ..host import health, ports
from ..host.programs import command_of, environment_of, working_directory
from ..host.supervisor import UP, Program, Supervisor


class Health(Inputs):
    """When the program is ready."""

    port: str = Field("http", description="Name of the port to check.")
    path: str | None = Field(
        None, description="HTTP path that answers 200. Default: an open port is enough."
    )
    timeout_seconds: float = Field(120, gt=0, description="Time limit of a start, in seconds.")

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str | None) -> str | None:
        if path is not None and not path.startswith("/"):
            raise ValueError("must begin with /")
        return path


class ProcessInputs(Inputs):
    """Inputs of `mlops:local:Process`.

    `$(NAME)` in the command and in the environment variables stands for an environment variable.
    The resource sets HOST, PORT (the port `http`), PORT_<NAME>, DATA_DIR, FILES_DIR and REPLICA.
    """

    command: list[Known[str]] = Field(
        min_length=1,
        description="Program and arguments. `$(NAME)` stands for an environment variable.",
    )
    env: dict[str, Known[str]] = Field(
        {},
        description="Environment variables. The resource adds HOST, PORT, PORT_<NAME>, DATA_DIR, "
        "FILES_DIR and REPLICA.",
    )
    environment: Known[str] | None = Field(
        None,
        description="Folder of a virtual environment, whose programs come first on PATH. Default: "
        "the environment of the plugin.",
    )
    code: Known[str] | None = Field(
        None,
        description="Working directory, from which Python imports. Default: a folder of the "
        "process.",
    )
    ports: dict[str, int] = Field(
        {"http": 0}, description="Ports by name, 1 to 65535. 0 stands for an unused port."
    )
    files: dict[str, Known[str]] = Field(
        {}, description="Private files by name, in the folder FILES_DIR."
    )
    rereads_files: bool = Field(
        False,
        description="The program rereads changed files. Otherwise a changed file restarts it.",
    )
    data: Known[str] | None = Field(
        None, description="Folder of the data, in the variable DATA_DIR. Default: no data."
    )
    replicas: int = Field(1, ge=1, le=64, description="Number of processes.")
    routed: bool = Field(
        False,
        description="A route sends requests to the process. A change then starts a new process "
        "next to the old one, moves the route, and stops the old process last.",
    )
    health: Health = Field(Health(), description="Health check that decides when it is ready.")
    stop_seconds: float = Field(
        10, gt=0, description="Seconds to stop before the process is killed."
    )

    @field_validator("ports")
    @classmethod
    def _in_range(cls, value: dict[str, int]) -> dict[str, int]:
        for name, port in value.items():
            if not 0 <= port <= 65535:
                raise ValueError(f"{name} is {port}: 1 to 65535, or 0 for a free one")
        return value


class ProcessHandler(Handler[ProcessInputs]):
    """Programs under the stack's supervisord, one a replica."""

    token = "mlops:local:Process"
    description = "A supervised program of this machine, ready when its health check passes."
    inputs = ProcessInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "url": OutputField(str, "URL of the port `http` of the first replica."),
        "addresses": OutputField(
            dict[str, list[str]], "`host:port` of each replica, by the name of the port."
        ),
        "status": OutputField(str, "`running`, or what is wrong with the processes."),
        "logs": OutputField(list[str], "Paths of the log files."),
    }

    def check(self, ctx: Context, new: ProcessInputs) -> list[tuple[str, str]]:
        problems = []
        pinned = {name: port for name, port in new.ports.items() if port}
        if pinned and new.replicas > 1:
            problems.append(
                (
                    "ports",
                    f"{new.replicas} replicas cannot share port {min(pinned.values())}: "
                    "leave the port out, or ask for one replica",
                )
            )
        if pinned and new.routed:
            problems.append(("ports", "a routed process takes free ports: pin the route's"))
        if new.health.port not in new.ports:
            problems.append(
                ("health.port", f"{new.health.port!r} is none of the ports {sorted(new.ports)}")
            )
        for name in new.files:
            if "/" in name or name.startswith("."):
                problems.append((f"files.{name}", "must be a plain file name"))
        for name, port in pinned.items():
            try:
                ports.check(ctx.root, _owner(ctx.name, 0, name), port)
            except ResourceError as error:
                problems.append((f"ports.{name}", str(error)))
        return problems

    def replaces(self, changed: set[str], old: dict[str, Any], new: ProcessInputs) -> set[str]:
        if not new.routed:
            return set()
        return changed - {"replicas", "stopSeconds"}

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        status = _status(ctx.root, resource_id, state)
        recorded = state.get("status")
        return {} if status == recorded == "running" else {"status": status}

    def preview(
        self, ctx: Context, new: ProcessInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        if old is None or new.replicas != int(old.get("replicas") or 1):
            return {"status": "running"}
        return {key: old[key] for key in ("url", "addresses", "logs")} | {"status": "running"}

    def create(self, ctx: Context, new: ProcessInputs) -> tuple[str, dict[str, Any]]:
        for leftover in _instances_on_machine(ctx.root, ctx.name):
            if leftover not in ctx.known_ids:
                _remove(ctx.root, leftover)
        resource_id = ctx.root.generation("process", ctx.name) if new.routed else ctx.name
        try:
            return resource_id, self._run(ctx, resource_id, new)
        except BaseException:
            _remove(ctx.root, resource_id, keep_logs=True)
            ctx.root.prune(keep_logs=True)
            raise

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not Supervisor(ctx.root).folder(_program(resource_id, 0)).exists():
            return None
        return {"status": _status(ctx.root, resource_id, state)}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: ProcessInputs
    ) -> dict[str, Any]:
        try:
            return self._run(ctx, resource_id, new)
        except BaseException:
            self._take_back(ctx, resource_id, old)
            raise

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        _remove(ctx.root, resource_id)
        ctx.root.prune()

    def _run(self, ctx: Context, resource_id: str, new: ProcessInputs) -> dict[str, Any]:
        """Have the replicas run as `new` says, wait until all are ready, end surplus ones."""
        supervisor = Supervisor(ctx.root)
        checks: dict[str, health.Check] = {}
        addresses: dict[str, list[str]] = {name: [] for name in new.ports}
        for index in range(new.replicas):
            taken = {
                name: ports.claim(ctx.root, _owner(resource_id, index, name), port or None)
                for name, port in new.ports.items()
            }
            program = _definition(ctx.root, resource_id, index, new, taken)
            supervisor.start(program)
            for name, port in taken.items():
                addresses[name].append(f"127.0.0.1:{port}")
            checks[program.name] = health.Check(**(program.health or {}))
        crashed = _crash_watch(supervisor, list(checks))
        try:
            health.wait(ctx, checks, ctx.timeout or new.health.timeout_seconds, crashed)
        except ResourceError as error:
            logs = "\n".join(tail(_log(ctx.root, name)) for name in list(checks)[:1])
            raise ResourceError(f"{error}\nIts last log lines:\n{logs}") from None
        _remove_surplus(ctx.root, resource_id, new.replicas)
        first = next(iter(addresses.get("http") or addresses[new.health.port]))
        return {
            "url": f"http://{first}",
            "addresses": addresses,
            "status": "running",
            "logs": [str(_log(ctx.root, name)) for name in checks],
        }

    def _take_back(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """Have what ran before a change run again: its files and ports, too."""
        names = [info.alias or name for name, info in self.inputs.model_fields.items()]
        before = self.inputs.model_validate(
            {name: old[name] for name in names if old.get(name) is not None}
        )
        try:
            for index in range(before.replicas):
                taken = {
                    name: ports.claim(
                        ctx.root,
                        _owner(resource_id, index, name),
                        int(old["addresses"][name][index].rpartition(":")[2]),
                    )
                    for name in before.ports
                }
                Supervisor(ctx.root).start(_definition(ctx.root, resource_id, index, before, taken))
            _remove_surplus(ctx.root, resource_id, before.replicas)
        except ResourceError as error:
            ctx.log(f"what ran before does not run: {error}", level="warning")


def _definition(
    root: StackDir, resource_id: str, index: int, new: ProcessInputs, taken: dict[str, int]
) -> Program:
    name = _program(resource_id, index)
    folder = root.folder("programs", name)
    files = root.folder("programs", name, "files")
    for file, content in new.files.items():
        write_private(files / file, known_text(content))
    for stale in {entry.name for entry in files.iterdir()} - set(new.files):
        remove_tree(files / stale)
    content = hashlib.sha256(json.dumps(dict(new.files), sort_keys=True).encode()).hexdigest()
    given = {
        "HOST": "127.0.0.1",
        "HOST_NAMES": "localhost,localhost:*,127.0.0.1,127.0.0.1:*",
        "REPLICA": str(index),
        "FILES_DIR": str(files),
        "RUNTIME_DIR": str(root.socket_folder(name)),
        "TMPDIR": str(root.socket_folder(name)),
        **({"PORT": str(taken["http"])} if "http" in taken else {}),
        **{f"PORT_{port.upper().replace('-', '_')}": str(taken[port]) for port in taken},
        **({"DATA_DIR": known_text(new.data)} if new.data else {}),
    }
    if new.files and not new.rereads_files:
        # A part of the definition, so that other files make another program.
        given["FILES_DIGEST"] = content[:16]
    env = environment_of(root, new.environment, new.code, new.env, given)
    return Program(
        name=name,
        command=command_of(new.environment, new.command, env),
        env=env,
        cwd=working_directory(new.code) or folder,
        log=_log(root, name),
        stop_seconds=new.stop_seconds,
        scratch=str(root.socket_folder(name)),
        health=asdict(health.Check(taken[new.health.port], new.health.path)),
    )


def _program(resource_id: str, index: int) -> str:
    return f"{resource_id}-{index}"


def _owner(resource_id: str, index: int, port: str) -> str:
    return f"{_program(resource_id, index)}/{port}"


def _log(root: StackDir, program: str) -> Path:
    return root.path / "logs" / f"{program}.log"


def _split(program: str) -> tuple[str, int] | None:
    """The physical id and the replica of a program's name; None for a name of another making."""
    resource_id, _, index = program.rpartition("-")
    return (resource_id, int(index)) if resource_id and index.isdigit() else None


def _replicas_on_machine(root: StackDir) -> set[tuple[str, int]]:
    """Every (physical id, replica) that left something: a definition or a port."""
    folder = root.path / "programs"
    names = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    names |= {owner.split("/", 1)[0] for owner in ports.owners(root)}
    return {found for name in names if (found := _split(name)) is not None}


def _instances_on_machine(root: StackDir, name: str) -> set[str]:
    ids = {resource_id for resource_id, _ in _replicas_on_machine(root)}
    return {found for found in ids if found == name or is_generation(found, name)}


def _status(root: StackDir, resource_id: str, state: dict[str, Any]) -> str:
    """`running`, or what of the replicas is not."""
    replicas = int(state.get("replicas") or 1)
    seconds = float((state.get("health") or {}).get("timeoutSeconds") or 0)
    supervisor = Supervisor(root)
    infos = supervisor.infos()
    programs = [_program(resource_id, index) for index in range(replicas)]
    up = [name for name in programs if infos.get(name, {}).get("statename") in UP]
    if len(up) < replicas:
        down = replicas - len(up)
        return "stopped" if down == replicas else f"{down} of {replicas} stopped"
    starting = sum(_is_starting(supervisor, infos[name], seconds) for name in programs)
    if not starting:
        return "running"
    return "starting" if starting == replicas else f"{starting} of {replicas} starting"


def _is_starting(supervisor: Supervisor, info: dict[str, Any], seconds: float) -> bool:
    """Whether a program that began less than `seconds` ago is not ready yet: restarted after a
    crash, say. An older one is not asked: what it lacks, no restart gives."""
    if int(info["now"]) - int(info["start"]) >= seconds:
        return False
    program = supervisor.definition(info["group"])
    if program is None or program.health is None:
        return False
    try:
        return health.probe(health.Check(**program.health), timeout=2) is not None
    except health.Failed:
        return True


def _crash_watch(supervisor: Supervisor, names: list[str]) -> Any:
    """Tells when one of `names` has ended three times."""
    seen: dict[str, set[int]] = {name: set() for name in names}

    def crashed() -> str | None:
        for name, info in supervisor.infos().items():
            if name not in seen:
                continue
            if info["pid"]:
                seen[name].add(int(info["pid"]))
            if len(seen[name]) > 2 or info["statename"] == "FATAL":
                return f"it ended {len(seen[name])} times"
        return None

    return crashed


def _remove_replica(root: StackDir, resource_id: str, index: int, keep_logs: bool = False) -> None:
    name = _program(resource_id, index)
    Supervisor(root).stop(name)
    remove_tree(root.socket_folder(name))
    for owner in list(ports.owners(root)):
        if owner.startswith(f"{name}/"):
            ports.release(root, owner)
    if not keep_logs:
        for log in (root.path / "logs").glob(f"{name}.log*"):
            log.unlink(missing_ok=True)


def _remove_surplus(root: StackDir, resource_id: str, replicas: int) -> None:
    for found, index in sorted(_replicas_on_machine(root)):
        if found == resource_id and index >= replicas:
            _remove_replica(root, resource_id, index)


def _remove(root: StackDir, resource_id: str, keep_logs: bool = False) -> None:
    for found, index in sorted(_replicas_on_machine(root)):
        if found == resource_id:
            _remove_replica(root, resource_id, index, keep_logs)
