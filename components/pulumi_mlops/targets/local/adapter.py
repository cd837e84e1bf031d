"""The local target: everything runs as this machine's own processes, without root."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import psutil
import pulumi

from ... import sources
from ...crontab import for_apscheduler
from ...spec import SecretKeyRef
from .. import databases, shared_resources
from ..port import (
    Bucket,
    BucketSpec,
    ClientSettings,
    Database,
    DatabaseSpec,
    Environment,
    EnvironmentSpec,
    Job,
    JobSpec,
    ModelVersion,
    ModelVersionSpec,
    Resources,
    Route,
    RouteSpec,
    ScheduleSpec,
    SecretSpec,
    Service,
    ServiceSpec,
    Volume,
    stack_folder,
)
from . import sdk


class LocalTarget:
    """Answers with resources of the plugin's `mlops:local` module."""

    def environment(
        self, name: str, spec: EnvironmentSpec, opts: pulumi.ResourceOptions
    ) -> Environment:
        code: dict[str, sdk.EnvironmentSourceArgs] = {}
        for place, folder in spec.code.items():
            try:
                code[place] = {"path": str(folder), "digest": sources.digest(folder)}
            except OSError as error:
                raise pulumi.RunError(f"{name}: {folder} cannot be read: {error}") from None
        requirements = list(spec.requirements)
        native = sdk.Environment(
            name, {"requirements": requirements, "python": spec.python, "code": code}, opts
        )
        parts = [
            *requirements,
            spec.python or "",
            *(code[place]["digest"] for place in sorted(code)),
        ]
        version = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
        return Environment(version=version, native=native)

    def service(self, name: str, spec: ServiceSpec, opts: pulumi.ResourceOptions) -> Service:
        _refuse_more_than_there_is(name, spec.resources)
        if spec.max_replicas is not None:
            raise pulumi.RunError(
                f"{name}: max_replicas: the local target runs as many as `replicas` says: leave it "
                "out, or choose the target kubernetes (mlops:target)"
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
        return Service(
            url=native.url,
            addresses=native.addresses,
            native=native,
            ready=native,
        )

    def job(self, name: str, spec: JobSpec, opts: pulumi.ResourceOptions) -> Job:
        _refuse_more_than_there_is(name, spec.resources)
        if spec.workers > 1:
            raise pulumi.RunError(
                f"{name}: workers: the local target runs one, not {spec.workers}: leave it out, or "
                "choose the target kubernetes (mlops:target)"
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
        return Job(name=name, outputs=native.outputs, native=native, ready=native)

    def schedule(
        self, name: str, spec: ScheduleSpec, opts: pulumi.ResourceOptions
    ) -> Service | None:
        native = sdk.Process(
            name,
            {
                "command": [
                    "python", "-m", "pulumi_mlops.targets.local.host.scheduler",
                    "--job", spec.job.name, "--cron", for_apscheduler(spec.cron),
                    "--timezone", spec.timezone,
                ],
                "ports": {"http": 0},
                "health": {"path": "/health"},
                # A run that is under way is told to stop and may clean up.
                "stopSeconds": 15,
            },
            pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(depends_on=[spec.job.ready])
            ),
        )  # fmt: skip
        return Service(
            url=native.url,
            addresses=native.addresses,
            native=native,
            ready=native,
        )

    def route(self, name: str, spec: RouteSpec, opts: pulumi.ResourceOptions) -> Route:
        native = sdk.Route(
            name,
            {
                "endpoint": spec.endpoint,
                "services": {
                    key: {
                        "addresses": backend.service.addresses.apply(lambda all: all["http"]),
                        "weight": backend.weight,
                        "checkPath": backend.check_path,
                    }
                    for key, backend in spec.backends.items()
                },
                "port": spec.port,
            },
            opts,
        )
        return Route(
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

    def existing_secret(self, of: SecretKeyRef) -> pulumi.Output[str]:
        raise pulumi.RunError(
            f"Secret {of.name}: secret_key_ref is for stacks on Kubernetes: give the value, "
            "encrypted by `pulumi config set --secret --path`"
        )

    def volume(self, name: str, retain: bool, opts: pulumi.ResourceOptions) -> Volume:
        native = sdk.Volume(name, {"retain": retain}, opts)
        return Volume(path=native.path, retain=retain, native=native)

    def database(self, name: str, spec: DatabaseSpec, opts: pulumi.ResourceOptions) -> Database:
        return databases.database(self, name, spec, opts)

    def bucket(self, name: str, spec: BucketSpec, opts: pulumi.ResourceOptions) -> Bucket:
        return shared_resources.bucket(name, spec, opts)

    def model_version(
        self, name: str, spec: ModelVersionSpec, opts: pulumi.ResourceOptions
    ) -> ModelVersion:
        return shared_resources.model_version(name, spec, opts)

    def client_settings(
        self, name: str, env: pulumi.Output[Mapping[str, str]], opts: pulumi.ResourceOptions
    ) -> ClientSettings:
        return shared_resources.client_settings(name, env, opts)

    def logs_dir(self) -> str | None:
        return str(stack_folder() / "logs")


def _refuse_more_than_there_is(name: str, wanted: Resources) -> None:
    """Programs share the machine: what it has is what there is to give."""
    cores, memory = os.cpu_count() or 1, psutil.virtual_memory().total
    if (wanted.cpu or 0) > cores:
        raise pulumi.RunError(
            f"{name}: resources.cpu: {wanted.cpu:g} cores are asked for, and this machine has "
            f"{cores}: ask for less, or choose another target"
        )
    if (wanted.memory or 0) > memory:
        raise pulumi.RunError(
            f"{name}: resources.memory: {(wanted.memory or 0) >> 20} MiB are asked for, and this "
            f"machine has {memory >> 20}: ask for less, or choose another target"
        )
    if wanted.gpu and not Path("/dev/nvidiactl").exists():
        raise pulumi.RunError(
            f"{name}: resources.gpu: this machine has no NVIDIA GPU: ask for none, or choose "
            "another target (mlops:target)"
        )


def _native_environment(spec: ServiceSpec | JobSpec) -> sdk.Environment:
    environment = spec.environment.native
    if not isinstance(environment, sdk.Environment):
        raise pulumi.RunError("a local program needs an environment of the local target")
    return environment


def _variables(spec: ServiceSpec | JobSpec) -> dict[str, pulumi.Input[str]] | None:
    """The environment variables, with secrets marked as such."""
    secrets = {name: pulumi.Output.secret(value) for name, value in spec.secrets.items()}
    return {**spec.env, **secrets} or None
