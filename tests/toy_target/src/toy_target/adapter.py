"""The adapter: answers the port with resources of the module `mlops:toy`."""

from __future__ import annotations

import hashlib
from typing import Any, NoReturn

import pulumi

from pulumi_mlops import sources
from pulumi_mlops.plugin import sdk as plugin_sdk
from pulumi_mlops.spec import SecretKeyRef
from pulumi_mlops.targets.port import (
    Capability,
    EnvironmentHandle,
    EnvironmentSpec,
    JobHandle,
    JobSpec,
    Resources,
    RouteHandle,
    RouteSpec,
    ScheduleSpec,
    SecretSpec,
    ServiceHandle,
    ServiceSpec,
    VolumeHandle,
    stack_folder,
    unsupported,
)
from pulumi_mlops.targets.shared_resources import SharedRequests

from . import sdk, settings


class ToyTarget(SharedRequests):
    """Child processes and files in the stack folder."""

    def __init__(self) -> None:
        self._settings = settings.load()

    def environment(
        self, name: str, spec: EnvironmentSpec, opts: pulumi.ResourceOptions
    ) -> EnvironmentHandle:
        try:
            code = {
                place: {"path": str(folder), "digest": sources.digest(folder)}
                for place, folder in spec.code.items()
            }
        except OSError as error:
            raise pulumi.RunError(f"{name}: its code cannot be read: {error}") from None
        if spec.constraints or spec.projects:
            raise pulumi.RunError(
                f"{name}: constraints and local projects are not supported by this target: list "
                "requirements of the package index"
            )
        props = {"requirements": spec.requirements, "python": spec.python, "code": code}
        version: pulumi.Input[str]
        if isinstance(spec.requirements, pulumi.Output):
            version = pulumi.Output.json_dumps(props).apply(_digest)
        else:
            version = _digest(repr(sorted(props.items())))
        native = sdk.Environment(name, {**props, "version": version}, opts)
        return EnvironmentHandle(version=version, native=native)

    def service(self, name: str, spec: ServiceSpec, opts: pulumi.ResourceOptions) -> ServiceHandle:
        _check_service(name, spec)
        native = sdk.Process(
            name,
            {
                **self._program(spec),
                "ports": {port: number or 0 for port, number in spec.ports.items()},
                "files": dict(spec.files),
                "data": spec.data.path if spec.data else None,
                "health": {"port": spec.health.port, "timeout": spec.health.timeout,
                           **({"path": spec.health.path} if spec.health.path else {})},
                "stopSeconds": spec.stop_seconds,
            },
            opts,
        )  # fmt: skip
        return ServiceHandle(
            url=native.output("url"), addresses=native.output("addresses"),
            native=native, ready=native,
        )  # fmt: skip

    def job(self, name: str, spec: JobSpec, opts: pulumi.ResourceOptions) -> JobHandle:
        _check_gpu(name, spec.resources)
        if spec.workers > 1:
            raise unsupported(name, "workers", Capability.DISTRIBUTED_JOBS, "remove `workers`")
        props = {**self._program(spec), "timeout": spec.timeout, "runOnChange": spec.run_on_change}
        native = sdk.Run(name, props, opts)
        return JobHandle(name=name, outputs=native.output("outputs"), native=native, ready=native)

    def schedule(
        self, name: str, spec: ScheduleSpec, opts: pulumi.ResourceOptions
    ) -> ServiceHandle | None:
        raise unsupported(name, "schedule", Capability.SCHEDULES, "start the job by `mlops run`")

    def route(self, name: str, spec: RouteSpec, opts: pulumi.ResourceOptions) -> RouteHandle:
        raise unsupported(name, "route", Capability.ROUTES, "call its services directly")

    def secret(
        self, name: str, spec: SecretSpec, opts: pulumi.ResourceOptions
    ) -> pulumi.Output[str]:
        native = plugin_sdk.GeneratedSecret(name, {"length": spec.length}, opts)
        return pulumi.Output.secret(native.output("value"))

    def existing_secret(self, ref: SecretKeyRef) -> NoReturn:
        raise unsupported(
            f"Secret {ref.name}", "secret_key_ref", Capability.EXISTING_SECRETS,
            "set the value, encrypted by `pulumi config set --secret --path`",
        )  # fmt: skip

    def volume(self, name: str, retain: bool, opts: pulumi.ResourceOptions) -> VolumeHandle:
        native = sdk.Volume(name, {"retain": retain}, opts)
        return VolumeHandle(path=native.output("path"), retain=retain, native=native)

    def fetched_files(self, name: str, spec: Any, opts: pulumi.ResourceOptions) -> NoReturn:
        raise unsupported(
            name, "fetched_files", Capability.FETCHED_FILES, "let the service fetch them"
        )

    def logs_dir(self) -> str | None:
        return str(stack_folder() / "toy" / "logs")

    def _program(self, spec: ServiceSpec | JobSpec) -> dict[str, Any]:
        environment = spec.environment.native
        if not isinstance(environment, sdk.Environment):
            raise pulumi.RunError("the Python environment belongs to another target")
        secrets = {key: pulumi.Output.secret(value) for key, value in spec.secrets.items()}
        return {
            "command": list(spec.command),
            "env": {"TOY_GREETING": self._settings.greeting, **spec.env, **secrets},
            "environment": environment.output("path"),
            "version": spec.environment.version,
        }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_service(name: str, spec: ServiceSpec) -> None:
    """Raise pulumi.RunError for everything that this target does not support."""
    _check_gpu(name, spec.resources)
    if spec.max_replicas is not None:
        raise unsupported(name, "max_replicas", Capability.AUTOSCALING, "remove it")
    if spec.replicas > 1 and spec.data is not None:
        raise unsupported(name, "data of replicas", Capability.SHARED_DATA, "set `replicas` to 1")
    if (spec.replicas > 1 or spec.routed) and any(spec.ports.values()):
        raise unsupported(name, "a fixed port", Capability.SHARED_PORTS, "remove the port number")
    if spec.replicas > 1:
        raise unsupported(name, "replicas", Capability.REPLICAS, "set `replicas` to 1")


def _check_gpu(name: str, resources: Resources) -> None:
    if resources.gpu:
        raise unsupported(name, "resources.gpu", Capability.GPUS, "remove it")
