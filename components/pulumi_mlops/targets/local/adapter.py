"""The adapter of the local target: it answers requests of the port with processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import psutil
import pulumi

from ... import sources
from ...crontab import for_apscheduler
from ...requirements import digests_of
from ...spec import SecretKeyRef
from ..port import (
    AnalysisSpec,
    Capability,
    EnvironmentHandle,
    EnvironmentSpec,
    FetchedFilesHandle,
    FetchedFilesSpec,
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
from ..shared_resources import SharedRequests
from . import sdk
from .host.gpu import has_gpu

_ANALYSIS = AnalysisSpec()


class LocalTarget(SharedRequests):
    """The adapter. Its native resources are those of the module `mlops:local`."""

    def environment(
        self, name: str, spec: EnvironmentSpec, opts: pulumi.ResourceOptions
    ) -> EnvironmentHandle:
        code: dict[str, sdk.EnvironmentSourceArgs] = {}
        for import_path, folder in spec.code.items():
            try:
                code[import_path] = {"path": str(folder), "digest": sources.digest(folder)}
            except OSError as error:
                raise pulumi.RunError(f"{name}: {folder} cannot be read: {error}") from None
        projects: dict[str, sdk.EnvironmentProjectSourceArgs] = {
            place: {"path": str(spec.projects[place]), "digest": content}
            for place, content in digests_of(name, spec.projects).items()
        }
        native = sdk.Environment(
            name,
            {
                "requirements": spec.requirements,
                "constraints": list(spec.constraints) or None,
                "projects": projects or None,
                "python": spec.python,
                "code": code,
            },
            opts,
        )
        digests = [code[import_path]["digest"] for import_path in sorted(code)]
        digests += [*spec.constraints, *(source["digest"] for source in projects.values())]
        return EnvironmentHandle(version=_version(spec, digests), native=native)

    def service(self, name: str, spec: ServiceSpec, opts: pulumi.ResourceOptions) -> ServiceHandle:
        _check_resources(name, spec.resources)
        if spec.max_replicas is not None:
            raise unsupported(
                name, "max_replicas", Capability.AUTOSCALING, "set a fixed number in `replicas`"
            )
        if (spec.replicas > 1 or spec.routed) and any(spec.ports.values()):
            kind = "a routed service" if spec.routed else "several replicas"
            raise unsupported(
                name, f"a fixed port of {kind}", Capability.SHARED_PORTS, "remove the port number"
            )
        environment = _native_environment(spec)
        native = sdk.Process(
            name,
            {
                "command": list(spec.command),
                "env": _variables(spec),
                "environment": environment.path,
                "code": environment.code_path,
                "ports": {port: number or 0 for port, number in spec.ports.items()},
                "files": dict(spec.files) or None,
                "rereadsFiles": spec.rereads_files or None,
                "data": spec.data.path if spec.data else None,
                "fetched": spec.fetched.path if spec.fetched else None,
                "replicas": spec.replicas,
                "routed": spec.routed or None,
                "health": {
                    "port": spec.health.port,
                    "timeoutSeconds": spec.health.timeout,
                    **({"path": spec.health.path} if spec.health.path else {}),
                },
                "stopSeconds": spec.stop_seconds,
            },
            opts,
        )
        return ServiceHandle(
            url=native.url,
            addresses=native.addresses,
            native=native,
            ready=native,
        )

    def job(self, name: str, spec: JobSpec, opts: pulumi.ResourceOptions) -> JobHandle:
        _check_resources(name, spec.resources)
        if spec.workers > 1:
            raise unsupported(
                name, f"workers: {spec.workers}", Capability.DISTRIBUTED_JOBS, "remove `workers`"
            )
        environment = _native_environment(spec)
        native = sdk.Run(
            name,
            {
                "command": list(spec.command),
                "env": _variables(spec),
                "environment": environment.path,
                "code": environment.code_path,
                "version": spec.environment.version,
                "runOnChange": spec.run_on_change,
                "timeoutSeconds": spec.timeout,
            },
            opts,
        )
        return JobHandle(name=name, outputs=native.outputs, native=native, ready=native)

    def schedule(
        self, name: str, spec: ScheduleSpec, opts: pulumi.ResourceOptions
    ) -> ServiceHandle | None:
        try:
            cron = for_apscheduler(spec.cron)
        except ValueError as error:
            raise pulumi.RunError(f"{name}: cron: {error}") from None
        native = sdk.Process(
            name,
            {
                "command": [
                    "python", "-m", "pulumi_mlops.targets.local.host.scheduler",
                    "--job", spec.job.name, "--cron", cron,
                    "--timezone", spec.timezone,
                ],
                "ports": {"http": 0},
                "health": {"path": "/health"},
                # A run in progress is interrupted and may clean up.
                "stopSeconds": 15,
            },
            pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(depends_on=[spec.job.ready])
            ),
        )  # fmt: skip
        return ServiceHandle(
            url=native.url,
            addresses=native.addresses,
            native=native,
            ready=native,
        )

    def route(self, name: str, spec: RouteSpec, opts: pulumi.ResourceOptions) -> RouteHandle:
        if spec.hosts:
            raise unsupported(
                name, "hosts", Capability.PUBLIC_HOSTS,
                "remove it: the proxy accepts every host name",
            )  # fmt: skip
        native = sdk.Route(
            name,
            {
                "endpoint": spec.endpoint,
                "services": {
                    key: {
                        "addresses": backend.service.addresses.apply(lambda ports: ports["http"]),
                        "weight": backend.weight,
                        "checkPath": backend.check_path,
                    }
                    for key, backend in spec.backends.items()
                },
                "port": spec.port,
                "analysis": _analysis(spec.analysis or _ANALYSIS),
            },
            opts,
        )
        return RouteHandle(
            url=native.url,
            metrics_url=native.metrics_url,
            native=native,
            ready=native,
        )

    def secret(
        self, name: str, spec: SecretSpec, opts: pulumi.ResourceOptions
    ) -> pulumi.Output[str]:
        native = sdk.Secret(name, {"length": spec.length, "retain": spec.retain}, opts)
        return pulumi.Output.secret(native.value)

    def existing_secret(self, ref: SecretKeyRef) -> pulumi.Output[str]:
        raise unsupported(
            f"Secret {ref.name}", "secret_key_ref", Capability.EXISTING_SECRETS,
            "set the value, encrypted by `pulumi config set --secret --path`",
        )  # fmt: skip

    def volume(self, name: str, retain: bool, opts: pulumi.ResourceOptions) -> VolumeHandle:
        native = sdk.Volume(name, {"retain": retain}, opts)
        return VolumeHandle(path=native.path, retain=retain, native=native)

    def fetched_files(
        self, name: str, spec: FetchedFilesSpec, opts: pulumi.ResourceOptions
    ) -> FetchedFilesHandle:
        environment = _native_environment(spec)
        native = sdk.FetchedFiles(
            name,
            {
                "command": list(spec.command),
                "env": _variables(spec),
                "environment": environment.path,
                "code": environment.code_path,
                "content": spec.content,
                "timeoutSeconds": spec.timeout,
            },
            opts,
        )
        return FetchedFilesHandle(path=native.path, native=native, spec=spec)

    def logs_dir(self) -> str | None:
        return str(stack_folder() / "logs")


def _version(spec: EnvironmentSpec, digests: Sequence[str]) -> pulumi.Input[str]:
    def version(values: Sequence[Any]) -> str:
        requirements, python = values
        parts = [*requirements, python or "", *digests]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    values = (spec.requirements, spec.python)
    if any(isinstance(value, pulumi.Output) for value in values):
        return pulumi.Output.all(*values).apply(version)
    return version(values)


def _analysis(spec: AnalysisSpec) -> sdk.RouteAnalysisArgs | None:
    if not spec.seconds:
        return None
    return {
        "seconds": spec.seconds,
        "minRequests": spec.min_requests,
        "maxErrorRate": spec.max_error_rate,
    }


def _check_resources(name: str, requested: Resources) -> None:
    """Raise pulumi.RunError for resources that this machine does not have."""
    cores, memory = os.cpu_count() or 1, psutil.virtual_memory().total
    if (requested.cpu or 0) > cores:
        raise pulumi.RunError(
            f"{name}: resources.cpu: this machine has {cores} cores, not {requested.cpu:g}: "
            "set a smaller number, or select another target (mlops:target)"
        )
    if (requested.memory or 0) > memory:
        raise pulumi.RunError(
            f"{name}: resources.memory: this machine has {memory >> 20} MiB, not "
            f"{(requested.memory or 0) >> 20}: set a smaller number, or select another target "
            "(mlops:target)"
        )
    if requested.gpu and not has_gpu():
        raise unsupported(
            name, f"resources.gpu: {requested.gpu}: this machine has no NVIDIA GPU and it",
            Capability.GPUS, "remove it",
        )  # fmt: skip


def _native_environment(spec: ServiceSpec | JobSpec | FetchedFilesSpec) -> sdk.Environment:
    environment = spec.environment.native
    if not isinstance(environment, sdk.Environment):
        raise pulumi.RunError(
            "the Python environment belongs to another target: use the same `target` for both"
        )
    return environment


def _variables(
    spec: ServiceSpec | JobSpec | FetchedFilesSpec,
) -> dict[str, pulumi.Input[str]] | None:
    """The environment variables, with secrets marked as such."""
    secrets = {name: pulumi.Output.secret(value) for name, value in spec.secrets.items()}
    return {**spec.env, **secrets} or None
