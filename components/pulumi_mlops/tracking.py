"""TrackingServer: MLflow's tracking server and model registry."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
from pydantic import Field, field_validator, model_validator

from .artifacts import ArtifactStore
from .spec import (
    HostName,
    NoBool,
    OnTarget,
    OrOutput,
    Port,
    ResourceSettings,
    SecretText,
    Spec,
    located,
)
from .targets.port import (
    BUCKET_CLIENT,
    DatabaseHandle,
    DatabaseSpec,
    EnvironmentHandle,
    EnvironmentSpec,
    Health,
    JobHandle,
    JobSpec,
    Resources,
    SecretSpec,
    ServiceSpec,
    Target,
    resolve,
    resources_of,
    runtime_folder,
    text_of,
)

if typing.TYPE_CHECKING:
    from .args import TrackingServerArgs

_MLFLOW = "3.17.2"  # 3.18.0 does not resolve
_ADMIN = "admin"
_POSTGRESQL_URL = re.compile(r"postgresql(\+psycopg2)?://[^@/\s]+@[^@/\s]+/[^/\s]+")


def _has_valid_port(url: str) -> bool:
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    match = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?", host)
    return match is not None and (match[1] is None or 1 <= int(match[1]) <= 65535)


class TrackingServerSettings(Spec):
    """The tracking server: MLflow with its model registry."""

    database: typing.Literal["sqlite", "postgresql"] = Field(
        "sqlite",
        description="Database to provision: `sqlite` for one user, `postgresql` for a team.",
    )
    database_url: SecretText | None = Field(
        None,
        description="URL of an existing PostgreSQL database, "
        "`postgresql://user:password@host:5432/database`. The user must own the database. The "
        "component never deletes its content. Default: a database that the component provisions.",
    )
    workers: OrOutput[typing.Annotated[int, Field(ge=1, le=64), NoBool]] = Field(
        1, description="Number of server processes."
    )
    port: Port | None = Field(None, description="Port of the server. Default: an unused port.")
    hosts: list[HostName] = Field(
        [],
        description="Further host names by which clients reach the server, such as that of an "
        "ingress. The server answers 403 to requests for other names.",
    )
    auth: bool = Field(
        False,
        description="Require a user name and password. The component creates the user `admin` "
        "with a generated password, which is part of `client_env`. `admin` can create more users.",
    )
    retain: bool = Field(True, description="Keep runs and models when the component is deleted.")
    resources: ResourceSettings = Field(
        ResourceSettings(), description="CPU, memory and GPUs of the server."
    )

    @field_validator("database_url")
    @classmethod
    def _valid_url(cls, url: typing.Any) -> typing.Any:
        if isinstance(url, str) and not _POSTGRESQL_URL.fullmatch(url):
            # The message omits the URL, since it contains a password.
            raise ValueError("must have the form `postgresql://user:password@host:5432/database`")
        if isinstance(url, str) and not _has_valid_port(url):
            raise ValueError("must have a port from 1 to 65535 after the host, or none")
        return url

    @model_validator(mode="after")
    def _one_database(self) -> typing.Self:
        if self.database_url is not None and "database" in self.model_fields_set:
            raise located(
                [
                    (
                        ("database",),
                        "selects a database to provision: remove it, or remove database_url",
                    )
                ]
            )
        return self


class TrackingServerSpec(TrackingServerSettings, OnTarget):
    """Inputs of a TrackingServer."""

    artifact_store: ArtifactStore = Field(
        description="Store of the artifacts. Clients access it through the server and need no "
        "credentials of the store."
    )


class TrackingServer(pulumi.ComponentResource):
    """An MLflow server that records experiments and registers models.

    Clients read and write artifacts through the server, which accesses the artifact store.

    Raises pulumi.RunError for invalid inputs.
    """

    artifact_store: ArtifactStore
    """Store of the artifacts."""
    url: pulumi.Output[str]
    """URL of the server: the value of MLFLOW_TRACKING_URI for clients."""
    client_env: pulumi.Output[dict[str, str]]
    """The environment variables that MLflow clients need. A secret with `auth`."""
    env: dict[str, pulumi.Input[str]]
    """The variables of `client_env` that are not secret, one input each. For `env` of a program."""
    secrets: dict[str, pulumi.Input[str]]
    """The variables of `client_env` that are secret, one input each. For `secrets` of a program."""

    def __init__(
        self,
        name: str,
        args: TrackingServerArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        spec = TrackingServerSpec.of(name, args)
        super().__init__("mlops:index:TrackingServer", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        target = resolve(spec.target)
        database = target.database(
            f"{name}-database",
            DatabaseSpec(
                engine=spec.database, url=text_of(target, spec.database_url), retain=spec.retain
            ),
            child,
        )
        self.artifact_store = store = spec.artifact_store
        auth = _auth(name, spec, target, database, child) if spec.auth else _NO_AUTH
        environment = target.environment(
            f"{name}-environment",
            EnvironmentSpec(
                requirements=[
                    f"mlflow{auth.extra}=={_MLFLOW}",
                    BUCKET_CLIENT,
                    *database.requirements,
                ],
                code={"pulumi_mlops/runtime": runtime_folder()},
            ),
            child,
        )
        dependencies = [] if database.ready is None else [database.ready]
        if database.shared:
            migration = _migration(
                name, target, database,
                pulumi.ResourceOptions(parent=self, depends_on=dependencies),
                environment=environment, schemas=auth.schemas,
            )  # fmt: skip
            dependencies = [*dependencies, migration.ready]
        self.server = target.service(
            f"{name}-server",
            ServiceSpec(
                environment=environment,
                command=[
                    "python", "-m", "pulumi_mlops.runtime.tracking_server", "server",
                    "--host", "$(HOST)", "--port", "$(PORT)",
                    "--workers", pulumi.Output.from_input(spec.workers).apply(str),
                    *auth.arguments,
                ],
                env={
                    "MLFLOW_ARTIFACTS_DESTINATION": pulumi.Output.concat(store.uri, "/mlflow"),
                    # Without jobs MLflow starts 1 process in 14 s, with jobs 10 processes in 35 s.
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    # By default each of its 40 threads may keep freed memory in its own arena.
                    "MALLOC_ARENA_MAX": "2",
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                    **_host_settings(spec.hosts),
                    **store.env,
                    **auth.env,
                },
                secrets={
                    "MLFLOW_BACKEND_STORE_URI": database.url,
                    **store.secrets,
                    **auth.secrets,
                },
                data=database.data,
                calls=[*store.services, *database.services],
                calls_outside=not store.services or database.outside,
                public=True,
                resources=resources_of(spec.resources),
                ports={"http": spec.port},
                files=auth.files,
                health=Health(path="/health", timeout=180),  # requires no password
            ),
            pulumi.ResourceOptions(parent=self, depends_on=dependencies),
        )  # fmt: skip
        self.url = self.server.url
        self.env = {"MLFLOW_TRACKING_URI": self.url, **auth.client_env}
        self.secrets = dict(auth.client_secrets)
        self.client_env = pulumi.Output.all(**self.env, **self.secrets)
        self.scrape = {
            f"{name}-server": {
                "job": "tracking",
                "instance": f"{name}-server",
                "url": None,
                "health_url": self.url.apply(lambda url: f"{url}/health"),
            }
        }
        self.register_outputs({"url": self.url})


@dataclass(frozen=True)
class _Auth:
    """The additional settings of a tracking server with `auth`. Default: none."""

    extra: str = ""
    schemas: Sequence[str] = ()
    arguments: Sequence[str] = ()
    env: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    secrets: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    client_env: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    client_secrets: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)


_NO_AUTH = _Auth()


def _migration(
    name: str,
    target: Target,
    database: DatabaseHandle,
    opts: pulumi.ResourceOptions,
    *,
    environment: EnvironmentHandle,
    schemas: Sequence[str],
) -> JobHandle:
    """The job that migrates the tables to the schema of the installed MLflow.

    It runs before the new tracking server starts. The previous one keeps running during the
    migration, and also if the migration fails.
    """
    return target.job(
        f"{name}-migration",
        JobSpec(
            environment=environment,
            command=["python", "-m", "pulumi_mlops.runtime.tracking_schema", *schemas],
            env={"MLFLOW_DISABLE_TELEMETRY": "true"},
            secrets={"MLFLOW_BACKEND_STORE_URI": database.url},
            calls=database.services,
            resources=Resources(cpu=0.1),
        ),
        opts,
    )


def _auth(
    name: str,
    spec: TrackingServerSpec,
    target: Target,
    database: DatabaseHandle,
    child: pulumi.ResourceOptions,
) -> _Auth:
    # Retained with the data, so that the password still works when the stack is created again.
    password = target.secret(f"{name}-admin-password", SecretSpec(retain=spec.retain), child)
    # Signs the forms of the web page. No retained data depends on it.
    session_key = target.secret(f"{name}-session-key", SecretSpec(length=40), child)
    return _Auth(
        extra="[auth]",
        schemas=("--users",),
        arguments=("--app-name", "basic-auth"),
        env={"MLFLOW_AUTH_CONFIG_PATH": "$(FILES_DIR)/auth.ini"},
        secrets={"MLFLOW_FLASK_SERVER_SECRET_KEY": session_key},
        files={"auth.ini": pulumi.Output.all(database.url, password).apply(_auth_ini)},
        client_env={"MLFLOW_TRACKING_USERNAME": _ADMIN},
        client_secrets={"MLFLOW_TRACKING_PASSWORD": password},
    )


def _host_settings(hosts: Sequence[str]) -> dict[str, str]:
    """MLflow's protection against DNS rebinding and cross-site requests.

    A request for a host name that is not listed gets 403, and so does a change that the web page of
    another origin sends. Behind an ingress the origin of MLflow's own page has the public name.
    """
    names = [text for host in hosts for text in (host, f"{host}:*")]
    settings = {"MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(["$(HOST_NAMES)", *names])}
    if hosts:
        origins = [f"{scheme}://{name}" for scheme in ("https", "http") for name in names]
        settings["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(origins)
    return settings


def _auth_ini(values: typing.Sequence[str]) -> str:
    database_url, password = (value.replace("%", "%%") for value in values)
    return "\n".join(
        (
            "[mlflow]",
            # The database of runs and models, so that all data is retained or deleted together.
            # MLflow records the schema version of the user tables in a table of its own,
            # alembic_version_auth.
            f"database_uri = {database_url}",
            f"admin_username = {_ADMIN}",
            f"admin_password = {password}",
            # Users may read everything and change what they created: MLflow gives the creator of
            # an experiment or a model the permission MANAGE.
            "default_permission = READ",
            # A request takes 0.02 s instead of 0.3 s, most of which is the hash of the password.
            # With several workers a deleted user may still have access for this time.
            "auth_cache_ttl_seconds = 60",
            "",
        )
    )
