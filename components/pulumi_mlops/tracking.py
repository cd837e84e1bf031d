"""TrackingServer: MLflow's tracking server and model registry."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
from pydantic import Field, field_validator, model_validator

from .artifacts import ArtifactStore
from .spec import Known, NoBool, Port, ResourceSettings, SecretInput, SecretText, Spec, located
from .targets.port import (
    Database,
    DatabaseSpec,
    Environment,
    EnvironmentSpec,
    Health,
    Job,
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

_MLFLOW = "3.17.2"  # 3.18.0 does not resolve
_BOTO3 = "boto3==1.43.36"  # what the server speaks to the store with
_ADMIN = "admin"
_POSTGRESQL_URL = re.compile(r"postgresql(\+psycopg2)?://[^@/\s]+@[^@/\s]+/[^/\s]+")


class TrackingServerSettings(Spec):
    """What a stack's configuration may say of the tracking server."""

    database: typing.Literal["sqlite", "postgresql"] = Field(
        "sqlite", description="`sqlite` for one person, `postgresql` for a team."
    )
    database_url: SecretText | None = Field(
        None,
        description="A PostgreSQL that exists already, `postgresql://user:password@host/database`; "
        "nothing is provisioned then.",
    )
    workers: Known[typing.Annotated[int, Field(ge=1, le=64), NoBool]] = Field(
        1, description="Server processes."
    )
    port: Port | None = Field(None, description="Its port; a free one unless told.")
    auth: bool = Field(
        False, description="Whether it asks for a user; the platform's own clients are `admin`."
    )
    retain: bool = Field(
        True, description="Whether runs and models stay when the stack is destroyed."
    )
    resources: ResourceSettings = Field(ResourceSettings(), description="What it takes.")

    @field_validator("database_url")
    @classmethod
    def _address(cls, url: typing.Any) -> typing.Any:
        if isinstance(url, str) and not _POSTGRESQL_URL.fullmatch(url):
            # Without the text, which has a password.
            raise ValueError("must be as `postgresql://user:password@host:5432/database`")
        return url

    @model_validator(mode="after")
    def _one_database(self) -> typing.Self:
        if self.database_url is not None and "database" in self.model_fields_set:
            raise located(
                [(("database",), "is of one that is provisioned: leave it out beside database_url")]
            )
        return self


class TrackingServerArgs(typing.TypedDict):
    """What a TrackingServer takes."""

    artifact_store: ArtifactStore
    """Where artifacts go; clients reach them through the server and need no credentials of it."""
    database: typing.NotRequired[typing.Literal["sqlite", "postgresql"]]
    """`sqlite` unless told."""
    database_url: typing.NotRequired[SecretInput]
    """A PostgreSQL that exists already, as `postgresql://user:password@host:5432/database`, in the
    place of one that is provisioned. Its user owns the database; nothing deletes what is in it."""
    workers: typing.NotRequired[pulumi.Input[int]]
    """Server processes; 1 unless told."""
    port: typing.NotRequired[int]
    """A free one unless told."""
    auth: typing.NotRequired[bool]
    """Whether it asks for a user and password; it does not unless told. The user `admin` has a
    generated password, stands in `client_env`, and may make further users."""
    retain: typing.NotRequired[bool]
    """Whether runs and models stay when the component is deleted; they do unless told."""
    resources: typing.NotRequired[typing.Mapping[str, typing.Any]]
    """`cpu` in cores, `memory` as in `2Gi`, `gpu`; the target's defaults unless told."""
    target: typing.NotRequired[str]
    """Where it runs; the stack's `mlops:target` unless told."""


class _TrackingServerSpec(TrackingServerSettings):
    artifact_store: ArtifactStore
    target: str | None = None


class TrackingServer(pulumi.ComponentResource):
    """Records experiments and registers models; artifacts pass through it to the store.

    Raises pulumi.RunError for inputs that cannot be.
    """

    url: pulumi.Output[str]
    """Where clients point MLFLOW_TRACKING_URI."""
    client_env: pulumi.Output[dict[str, str]]
    """The environment variables that MLflow clients need; a secret where it asks for a user."""
    env: dict[str, pulumi.Input[str]]
    """Those of them that are no secrets, a variable each, for a program's environment."""
    secrets: dict[str, pulumi.Input[str]]
    """Those that are."""

    def __init__(
        self,
        name: str,
        args: TrackingServerArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        spec = _TrackingServerSpec.of(name, args)
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
        store = spec.artifact_store
        auth = _auth(name, spec, target, database, child) if spec.auth else _NO_AUTH
        environment = target.environment(
            f"{name}-environment",
            EnvironmentSpec(
                requirements=[f"mlflow{auth.extra}=={_MLFLOW}", _BOTO3, *database.requirements],
                code={"pulumi_mlops/runtime": runtime_folder()},
            ),
            child,
        )
        first = [] if database.ready is None else [database.ready]
        if database.shared:
            migration = _migration(
                name, target, database, pulumi.ResourceOptions(parent=self, depends_on=first),
                environment=environment, schemas=auth.schemas,
            )  # fmt: skip
            first = [*first, migration.ready]
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
                    # From 10 processes and 35 s of start to 1 process and 14 s.
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    # Its 40 threads would have an arena of freed memory each.
                    "MALLOC_ARENA_MAX": "2",
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                    # Others get 403: a page of somewhere else must not reach it by a name it made.
                    "MLFLOW_SERVER_ALLOWED_HOSTS": "$(HOST_NAMES)",
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
                health=Health(path="/health", timeout=180),  # asks nobody for a password
            ),
            pulumi.ResourceOptions(parent=self, depends_on=first),
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
    """What differs in a server that asks for a user."""

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
    database: Database,
    opts: pulumi.ResourceOptions,
    *,
    environment: Environment,
    schemas: Sequence[str],
) -> Job:
    """Has the tables be those of this MLflow before a server with it starts, once for all servers.
    The one of before goes on meanwhile, and when it fails."""
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
    spec: _TrackingServerSpec,
    target: Target,
    database: Database,
    child: pulumi.ResourceOptions,
) -> _Auth:
    # As long as the data: whoever was given the password can still work with what is kept.
    password = target.secret(f"{name}-admin-password", SecretSpec(retain=spec.retain), child)
    # What forms of the web page are signed with: nothing that is kept depends on it.
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


def _auth_ini(values: typing.Sequence[str]) -> str:
    database_url, password = (value.replace("%", "%%") for value in values)
    return "\n".join(
        (
            "[mlflow]",
            # The one of runs and models, so that all of it is kept or deleted together; MLflow
            # counts the versions of its tables of users by themselves (alembic_version_auth).
            f"database_uri = {database_url}",
            f"admin_username = {_ADMIN}",
            f"admin_password = {password}",
            # Who was given a user may look at the work of others, as a team does, and change what
            # is theirs: MLflow makes the creator of an experiment or a model its manager.
            "default_permission = READ",
            # From 0.3 s a request to 0.02 s, by far the most of which is the password's hash. With
            # several workers a user that was deleted may go on for as many seconds.
            "auth_cache_ttl_seconds = 60",
            "",
        )
    )
