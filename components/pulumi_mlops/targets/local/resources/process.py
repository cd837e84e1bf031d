"""`mlops:local:Process`: a supervised program of this machine with one or more replicas."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, field_validator

from ....files import tail
from ....plugin.errors import ResourceError
from ....plugin.handler import Context, Handler, Inputs, OutputField
from ....plugin.values import OrUnknown
from ..host import health, ports
from ..host.names import log_file, program_name
from ..host.programs import program_problems
from ..host.supervisor import Supervisor
from . import process_status
from .replicas import (
    definition,
    instances_on_machine,
    port_owner,
    remove,
    remove_surplus,
)


class HealthInputs(Inputs):
    """The health check of a program."""

    port: str = Field("http", description="Name of the port to check.")
    path: str | None = Field(
        None, description="HTTP path that answers 200. Default: an open port is enough."
    )
    timeout_seconds: float = Field(120, gt=0, description="Time limit of a start, in seconds.")

    @field_validator("path")
    @classmethod
    def _valid_path(cls, path: str | None) -> str | None:
        if path is not None and not path.startswith("/"):
            raise ValueError("must begin with /")
        return path


class ProcessInputs(Inputs):
    """Inputs of `mlops:local:Process`.

    `$(NAME)` in the command and in the environment variables stands for an environment variable.
    The resource sets HOST, PORT (the port `http`), PORT_<NAME>, DATA_DIR, FETCHED_DIR, FILES_DIR
    and REPLICA.
    """

    command: list[OrUnknown[str]] = Field(
        min_length=1,
        description="Program and arguments. `$(NAME)` stands for an environment variable.",
    )
    env: dict[str, OrUnknown[str]] = Field(
        {},
        description="Environment variables. The resource adds HOST, PORT, PORT_<NAME>, DATA_DIR, "
        "FETCHED_DIR, FILES_DIR and REPLICA.",
    )
    environment: OrUnknown[str] | None = Field(
        None,
        description="Folder of a virtual environment, whose programs come first on PATH. Default: "
        "the environment of the plugin.",
    )
    code: OrUnknown[str] | None = Field(
        None,
        description="Working directory, from which Python imports. Default: a folder of the "
        "process.",
    )
    ports: dict[str, int] = Field(
        {"http": 0}, description="Ports by name, 1 to 65535. 0 stands for an unused port."
    )
    files: dict[str, OrUnknown[str]] = Field(
        {}, description="Private files by name, in the folder FILES_DIR."
    )
    rereads_files: bool = Field(
        False,
        description="The program rereads changed files. Otherwise a changed file restarts it.",
    )
    data: OrUnknown[str] | None = Field(
        None, description="Folder of the data, in the variable DATA_DIR. Default: no data."
    )
    fetched: OrUnknown[str] | None = Field(
        None,
        description="Folder of fetched files, in the variable FETCHED_DIR. Default: no such files.",
    )
    replicas: int = Field(1, ge=1, le=64, description="Number of processes.")
    routed: bool = Field(
        False,
        description="A route sends requests to the process. A change then starts a new process "
        "next to the old one, moves the route, and stops the old process last.",
    )
    health: HealthInputs = Field(
        HealthInputs(), description="Health check that decides when it is ready."
    )
    stop_seconds: float = Field(
        10, gt=0, description="Seconds to stop before the process is killed."
    )

    @field_validator("ports")
    @classmethod
    def _valid_ports(cls, value: dict[str, int]) -> dict[str, int]:
        for name, port in value.items():
            if not 0 <= port <= 65535:
                raise ValueError(f"{name} is {port}: must be 1 to 65535, or 0 for an unused port")
        return value


class ProcessHandler(Handler[ProcessInputs]):
    """Manages programs under the supervisor of the stack, one per replica."""

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
    path_output = ("logs", 2)

    def check(self, ctx: Context, new: ProcessInputs) -> list[tuple[str, str]]:
        problems = program_problems(new.environment, new.command, new.env)
        pinned = {name: port for name, port in new.ports.items() if port}
        if pinned and new.replicas > 1:
            problems.append(
                (
                    "ports",
                    f"{new.replicas} replicas cannot share port {min(pinned.values())}: "
                    "remove the port, or set replicas to 1",
                )
            )
        if pinned and new.routed:
            problems.append(
                ("ports", "a routed process has unused ports: set the port of the route instead")
            )
        if new.health.port not in new.ports:
            problems.append(
                ("health.port", f"{new.health.port!r} must be one of the ports {sorted(new.ports)}")
            )
        for name in new.files:
            if "/" in name or name.startswith("."):
                problems.append(
                    (
                        f"files.{name}",
                        "must be a file name without a folder and without a dot at the beginning",
                    )
                )
        for name, port in pinned.items():
            try:
                ports.check(ctx.root, port_owner(ctx.name, 0, name), port)
            except ResourceError as error:
                problems.append((f"ports.{name}", str(error)))
        return problems

    def replaces(self, changed: set[str], old: dict[str, Any], new: ProcessInputs) -> set[str]:
        if not new.routed:
            return set()
        return changed - {"replicas", "stopSeconds"}

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        status = process_status.status(ctx.root, resource_id, state)
        recorded = state.get("status")
        return {} if status == recorded == "running" else {"status": status}

    def preview(
        self, ctx: Context, new: ProcessInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        if old is None or new.replicas != int(old.get("replicas") or 1):
            return {"status": "running"}
        return {key: old[key] for key in ("url", "addresses", "logs")} | {"status": "running"}

    def create(self, ctx: Context, new: ProcessInputs) -> tuple[str, dict[str, Any]]:
        for leftover in instances_on_machine(ctx.root, ctx.name):
            if leftover not in ctx.known_ids:
                remove(ctx.root, leftover)
        resource_id = ctx.root.generation("process", ctx.name) if new.routed else ctx.name
        try:
            return resource_id, self._run(ctx, resource_id, new)
        except BaseException:
            remove(ctx.root, resource_id, keep_logs=True)
            ctx.root.prune(keep_logs=True)
            raise

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not Supervisor(ctx.root).folder(program_name(resource_id, 0)).exists():
            return None
        return {"status": process_status.status(ctx.root, resource_id, state)}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: ProcessInputs
    ) -> dict[str, Any]:
        try:
            return self._run(ctx, resource_id, new)
        except BaseException:
            self._roll_back(ctx, resource_id, old)
            raise

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        remove(ctx.root, resource_id)
        ctx.root.prune()

    def _run(self, ctx: Context, resource_id: str, new: ProcessInputs) -> dict[str, Any]:
        """Start the replicas as `new` describes, wait until all are ready, remove surplus ones."""
        supervisor = Supervisor(ctx.root)
        checks: dict[str, health.HealthCheck] = {}
        addresses: dict[str, list[str]] = {name: [] for name in new.ports}
        for index in range(new.replicas):
            port_numbers = {
                name: ports.claim(ctx.root, port_owner(resource_id, index, name), port or None)
                for name, port in new.ports.items()
            }
            program = definition(ctx.root, resource_id, index, new, port_numbers)
            supervisor.start(program)
            for name, port in port_numbers.items():
                addresses[name].append(f"127.0.0.1:{port}")
            checks[program.name] = health.HealthCheck(**(program.health or {}))
        crashed = process_status.crash_watch(supervisor, list(checks))
        try:
            health.wait(ctx, checks, ctx.timeout or new.health.timeout_seconds, crashed)
        except ResourceError as error:
            logs = "\n".join(tail(log_file(ctx.root, name)) for name in list(checks)[:1])
            raise ResourceError(f"{error}\nIts last log lines:\n{logs}") from None
        remove_surplus(ctx.root, resource_id, new.replicas)
        first = next(iter(addresses.get("http") or addresses[new.health.port]))
        return {
            "url": f"http://{first}",
            "addresses": addresses,
            "status": "running",
            "logs": [str(log_file(ctx.root, name)) for name in checks],
        }

    def _roll_back(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """Start the previous version again after a failed change, with its files and ports."""
        names = [info.alias or name for name, info in self.inputs.model_fields.items()]
        previous = self.inputs.model_validate(
            {name: old[name] for name in names if old.get(name) is not None}
        )
        try:
            for index in range(previous.replicas):
                port_numbers = {
                    name: ports.claim(
                        ctx.root,
                        port_owner(resource_id, index, name),
                        int(old["addresses"][name][index].rpartition(":")[2]),
                    )
                    for name in previous.ports
                }
                program = definition(ctx.root, resource_id, index, previous, port_numbers)
                Supervisor(ctx.root).start(program)
            remove_surplus(ctx.root, resource_id, previous.replicas)
        except ResourceError as error:
            ctx.log(f"the previous version could not be started: {error}", level="warning")
