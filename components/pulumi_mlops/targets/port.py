"""The port: what a component may ask of the place that it runs on, in plain values.

A target answers with resources of its own kind and hands back a handle; no component ever learns
which target it was. A handle's `native` is the target's own resource, the escape hatch; what has
to wait for it depends on its `ready`, which may be another one.

In commands and environment variables `$(NAME)` stands for a variable, as in Kubernetes. Every
service has HOST and PORT to listen on, RUNTIME_DIR for sockets, and HOST_NAMES, which has what
clients may call it by: `name` and `name:*` of each, by commas. One with data has DATA_DIR, one with
files FILES_DIR.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import pulumi
from pydantic import ValidationError

from ..sources import find_project
from ..spec import FromSecret, ResourceSettings, SecretKeyRef, Spec, problems
from . import registry

S = TypeVar("S", bound=Spec)

BUCKET_CLIENT = "boto3==1.44.5"
"""Requirement of a program that accesses a bucket."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """Python requirements, and folders of code by the place where they are imported from."""

    requirements: Sequence[str]
    python: str | None = None
    code: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Something that commands run in. `version` changes when requirements or code do."""

    version: str
    native: pulumi.Resource | None


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a program takes: cores that it is given at least, bytes of memory that it may have, and
    GPUs. What is None, the target decides."""

    cpu: float | None = None
    memory: int | None = None
    gpu: int = 0


@dataclass(frozen=True, kw_only=True)
class Health:
    """When a service is ready: `path` of the port called `port` answers 200. Without a path an
    open port is enough. `timeout` is in seconds."""

    path: str | None = None
    port: str = "http"
    timeout: float = 120


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """A program that stays up and answers on ports."""

    command: Sequence[pulumi.Input[str]]
    environment: Environment
    env: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    secrets: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Environment variables that nobody else may read."""
    ports: Mapping[str, int | None] = field(default_factory=lambda: {"http": None})
    """Ports by name; None lets the target choose a free one."""
    internal_ports: Collection[str] = ()
    """Those of them that the program itself uses and nobody else."""
    files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Private files by name, found in FILES_DIR."""
    rereads_files: bool = False
    """Whether it notices a changed file by itself; else it is restarted."""
    data: Volume | None = None
    health: Health = Health()
    resources: Resources = Resources()
    replicas: int = 1
    max_replicas: int | None = None
    """How many there may be where their use of `resources.cpu` decides, `replicas` being the least;
    None is a fixed number."""
    routed: bool = False
    """Whether only a route calls it: it then changes by a second one beside the first."""
    calls: Sequence[Service] = ()
    """The services that it calls: where a target can, no other traffic within it is let through."""
    watches: bool = False
    """Whether it looks at every service of the stack, as monitoring does."""
    public: bool = False
    """Whether people and programs beside the platform's call it."""
    calls_outside: bool = False
    """Whether it calls what is not the platform's, as an existing store."""
    stop_seconds: float = 10


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a service became. `url` is where it answers; `addresses` has host:port of each replica
    by port name, or one whose host name stands for all of them."""

    url: pulumi.Output[str]
    addresses: pulumi.Output[dict[str, list[str]]]
    native: pulumi.Resource
    ready: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A program that runs to completion when it is new or changed, and may leave outputs: JSON in
    the file that MLOPS_OUTPUTS names. `timeout` is in seconds."""

    command: Sequence[pulumi.Input[str]]
    environment: Environment
    env: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    secrets: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Environment variables that nobody else may read."""
    calls: Sequence[Service] = ()
    """The services that it calls; what is outside of the platform it may always call."""
    resources: Resources = Resources()
    """Of each worker."""
    workers: int = 1
    """Runs of the command that work together, as in distributed training. Each is told of the
    others as `torchrun` and PyTorch's `env://` expect it; the outputs are those of rank 0."""
    run_on_change: bool = True
    timeout: float = 3600


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a job became, and what its last run left."""

    name: str
    outputs: pulumi.Output[dict[str, Any]]
    native: pulumi.Resource
    ready: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class ScheduleSpec:
    """When a job runs by itself: five crontab fields, in a time zone of the IANA database."""

    job: Job
    cron: str
    timezone: str = "UTC"


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A service behind a route and its share of the traffic, in percent."""

    service: Service
    weight: int
    check_path: str


@dataclass(frozen=True, kw_only=True)
class RouteSpec:
    """One stable URL over services, by name; the weights sum to 100."""

    endpoint: str
    backends: Mapping[str, Backend]
    port: int | None = None


@dataclass(frozen=True, kw_only=True)
class Route:
    """What a route became, and where its own metrics are, if it has any."""

    url: pulumi.Output[str]
    metrics_url: pulumi.Output[str] | None
    native: pulumi.Resource
    ready: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class SecretSpec:
    """A generated secret. One that opens kept data is kept too."""

    length: int = 32
    retain: bool = False


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Data that outlives the programs that use it."""

    path: pulumi.Output[str]
    retain: bool
    native: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class DatabaseSpec:
    """A database: `sqlite` for one program, `postgresql` for many. `retain` keeps its data. With a
    `url` it exists already, and nothing is provisioned."""

    engine: str = "sqlite"
    url: pulumi.Input[str] | None = None
    retain: bool = True


@dataclass(frozen=True, kw_only=True)
class Database:
    """`url` is an SQLAlchemy URL, a secret where it has a password."""

    url: pulumi.Output[str]
    requirements: Sequence[str]
    """What a Python client needs beside SQLAlchemy."""
    data: Volume | None
    """What its client has to be given as `data`: a database that is a file."""
    services: Sequence[Service]
    """What its client has to name in `calls`."""
    shared: bool
    """Whether several programs may use it at a time: then none of them changes its tables when it
    starts, but a job before all of them."""
    native: pulumi.Resource | None = None
    ready: pulumi.Resource | None = None
    """None of one that exists already."""

    @property
    def outside(self) -> bool:
        """Whether it is not the platform's."""
        return self.native is None


@dataclass(frozen=True, kw_only=True)
class BucketSpec:
    """A bucket of an S3 store. `lifecycle` has what the store removes by itself, in days."""

    bucket: pulumi.Input[str]
    endpoint_url: pulumi.Input[str]
    region: pulumi.Input[str] = "us-east-1"
    access_key_id: pulumi.Input[str] | None = None
    """Without one those are taken that boto3 finds by itself."""
    secret_access_key: pulumi.Input[str] | None = None
    versioning: bool = False
    lifecycle: Mapping[str, int] | None = None
    """`expireNoncurrentDays`, `abortIncompleteUploadDays`."""
    encryption: Literal["AES256", "aws:kms"] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    public_access_block: bool | None = None
    """Whether every public policy is refused; on where the store can unless told."""
    retain: bool = True
    calls: Sequence[Service] = ()
    """The store, where it is the platform's own."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """What a bucket became; `uri` is `s3://bucket`, known once it is there."""

    uri: pulumi.Output[str]
    native: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class ModelVersionSpec:
    """A version that a model registry has; it is looked up when `after` is there."""

    tracking_uri: pulumi.Input[str]
    model: str
    version: str
    username: pulumi.Input[str] | None = None
    password: pulumi.Input[str] | None = None
    after: pulumi.Input[Any] = None


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """The version found. `example` is the request that it was logged with, empty without one;
    `ready` is None where nobody looks before its server does."""

    example: pulumi.Output[str]
    ready: pulumi.Resource | None


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """A private file on the machine that runs the update. `path` is where it is."""

    path: pulumi.Output[str]
    native: pulumi.Resource


class Target(Protocol):
    """Every ask. An adapter that cannot do one raises at preview, naming who can."""

    def environment(
        self, name: str, spec: EnvironmentSpec, opts: pulumi.ResourceOptions
    ) -> Environment:
        """Where commands run."""

    def service(self, name: str, spec: ServiceSpec, opts: pulumi.ResourceOptions) -> Service:
        """A program that stays up."""

    def job(self, name: str, spec: JobSpec, opts: pulumi.ResourceOptions) -> Job:
        """A program that ends."""

    def schedule(
        self, name: str, spec: ScheduleSpec, opts: pulumi.ResourceOptions
    ) -> Service | None:
        """A job by the clock; its metrics where the target has a program for it."""

    def route(self, name: str, spec: RouteSpec, opts: pulumi.ResourceOptions) -> Route:
        """One URL over several services."""

    def secret(
        self, name: str, spec: SecretSpec, opts: pulumi.ResourceOptions
    ) -> pulumi.Output[str]:
        """A generated secret's value."""

    def existing_secret(self, of: SecretKeyRef) -> pulumi.Output[str]:
        """A value out of a Secret that somebody else keeps."""

    def volume(self, name: str, retain: bool, opts: pulumi.ResourceOptions) -> Volume:
        """A place for data."""

    def database(self, name: str, spec: DatabaseSpec, opts: pulumi.ResourceOptions) -> Database:
        """A relational database."""

    def bucket(self, name: str, spec: BucketSpec, opts: pulumi.ResourceOptions) -> Bucket:
        """A bucket in a store that exists or was asked for before."""

    def model_version(
        self, name: str, spec: ModelVersionSpec, opts: pulumi.ResourceOptions
    ) -> ModelVersion:
        """A registered version of a model."""

    def client_settings(
        self, name: str, env: pulumi.Output[Mapping[str, str]], opts: pulumi.ResourceOptions
    ) -> ClientSettings:
        """The file that a client of the platform sources: `env` as environment variables."""

    def logs_dir(self) -> str | None:
        """Where logs are on this machine, or None where the target has its own way."""


def resources_of(settings: ResourceSettings) -> Resources:
    """The same as a value of the port."""
    return Resources(cpu=settings.cpu, memory=settings.memory, gpu=settings.gpu)


def text_of(target: Target, value: Any) -> Any:
    """The text of a SecretText; what is no reference to a Secret is left as it is."""
    return target.existing_secret(value.secret_key_ref) if isinstance(value, FromSecret) else value


def stack_folder() -> Path:
    """Where this stack keeps its files: below `mlops:dataDir`, or `.mlops` of the project."""
    base = pulumi.Config("mlops").get("dataDir") or find_project() / ".mlops"
    return Path(base).absolute() / pulumi.get_stack()


def runtime_folder() -> Path:
    """Where the programs are that run inside what is provisioned."""
    return Path(__file__).parent.parent / "runtime"


def resolve(name: str | None = None) -> Target:
    """The adapter of the target called `name`. Default: the stack's `mlops:target`.

    Raises pulumi.RunError for a name that no installed target has.
    """
    name = name or pulumi.Config("mlops").get("target") or registry.DEFAULT
    try:
        return registry.load(name).adapter()
    except registry.UnknownTargetError as error:
        raise pulumi.RunError(str(error)) from None


def stack_settings(name: str, model: type[S]) -> S:
    """The stack's configuration `mlops:<name>`, a target's own part, as `model`.

    Raises pulumi.RunError, one line per problem.
    """
    text = pulumi.Config("mlops").get(name)
    try:
        value: Any = json.loads(text) if text else {}
    except ValueError:
        value = text
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise pulumi.RunError("\n".join(problems(f"mlops:{name}", error))) from None
