"""Requests of the port as plain values, and the handles that a target returns for them.

A spec describes what a component needs. A handle holds the outputs of what the target provisioned
and its `native` resource, the escape hatch. Dependents wait for `ready`, which may be a different
resource.

Commands and environment variables may refer to variables by `$(NAME)`, as in Kubernetes. A target
sets these variables for every service:

- HOST and PORT: the address to listen on. PORT_<NAME>: the port with that name.
- RUNTIME_DIR: a folder for sockets and temporary files. It is emptied at each start.
- SPOOL_DIR, of routed services: a folder for what a server leaves to the next one. It stays when
  the program is started again. With SPOOL_SHARED=true, the servers of the machine share it, and it
  stays when they are replaced.
- HOST_NAMES: the names under which clients reach the service, as `name` and `name:*`, separated by
  commas.
- START_SLOTS_DIR, of routed services of one machine: a folder that they share, to start in turns.
- DATA_DIR: the folder of `data`. FILES_DIR: the folder of `files`. FETCHED_DIR: the folder of
  `fetched`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pulumi


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """A Python environment: requirements, and folders of code by their import path.

    `python` is a version such as `3.11`; None or empty for the target's default.
    """

    requirements: pulumi.Input[Sequence[str]]
    constraints: Sequence[str] = ()
    projects: Mapping[str, Path] = field(default_factory=dict)
    """Python projects and packages on this machine. A requirement refers to one of them as
    `./projects/<name>`."""
    python: pulumi.Input[str] | None = None
    code: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EnvironmentHandle:
    """A Python environment. `version` changes when its requirements or its code change."""

    version: pulumi.Input[str]
    native: pulumi.Resource | None


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Compute resources of one replica or worker. None leaves the value to the target."""

    cpu: float | None = None
    """CPU cores to reserve."""
    memory: int | None = None
    """Bytes of memory, set as both request and limit."""
    gpu: int = 0


@dataclass(frozen=True, kw_only=True)
class Health:
    """The health check of a service. The port named `port` answers 200 at `path`, or accepts
    connections if there is no `path`. `timeout` is the startup timeout in seconds."""

    path: str | None = None
    port: str = "http"
    timeout: float = 120


@dataclass(frozen=True, kw_only=True)
class CopySpec:
    """The objects below a key prefix of a bucket, `uri`, and the variables to access them."""

    uri: pulumi.Input[str]
    env: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    secrets: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FetchedFilesSpec:
    """Files that a program fetches before the services that read them start.

    The program fills the folder FETCHED_DIR, and does nothing if the folder is complete. The files
    are kept as long as a service has them, whatever becomes of their source.
    """

    command: Sequence[pulumi.Input[str]]
    environment: EnvironmentHandle
    content: pulumi.Input[str]
    """Identifies the content of the files. A change fetches other files."""
    env: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    secrets: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Environment variables that only the program may read, not the services."""
    copy: CopySpec | None = None
    """Where the program keeps a copy on a target whose machines come and go. It gets the location
    as `copy_variable`."""
    copy_variable: str = ""
    timeout: float = 600


@dataclass(frozen=True, kw_only=True)
class FetchedFilesHandle:
    """Fetched files. `path` is the folder in which a service finds them. `native` is None if they
    are fetched when a service starts."""

    path: pulumi.Input[str]
    native: pulumi.Resource | None
    spec: FetchedFilesSpec


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """A program that keeps running and listens on ports."""

    command: Sequence[pulumi.Input[str]]
    environment: EnvironmentHandle
    component: Literal["service", "database"] = "service"
    """The role of the service in the platform."""
    env: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    secrets: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Environment variables that only the service may read."""
    ports: Mapping[str, int | None] = field(default_factory=lambda: {"http": None})
    """Port numbers by name. None: the target chooses an unused port."""
    internal_ports: Collection[str] = ()
    """Names of ports that only the program itself connects to."""
    files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Contents of private files by name. The program finds them in FILES_DIR."""
    rereads_files: bool = False
    """Whether the program notices changed files. Default: it is restarted."""
    data: VolumeHandle | None = None
    fetched: FetchedFilesHandle | None = None
    health: Health = Health()
    resources: Resources = Resources()
    replicas: int = 1
    max_replicas: int | None = None
    """Upper bound of the autoscaler, which follows the CPU use relative to `resources.cpu`. The
    lower bound is `replicas`. Default: no autoscaler."""
    routed: bool = False
    """Whether only a route calls the service. A change then starts a second process and moves the
    route before the first process stops."""
    calls: Sequence[ServiceHandle] = ()
    """Services that this one calls. A target with network policies blocks other traffic."""
    watches: bool = False
    """Whether the service calls every other service of the stack, as monitoring does."""
    public: bool = False
    """Whether people and programs outside the platform call the service."""
    calls_outside: bool = False
    """Whether the service calls addresses outside the platform, such as an existing store."""
    stop_seconds: float = 10
    """Seconds that the program has to end after SIGTERM."""


@dataclass(frozen=True, kw_only=True)
class ServiceHandle:
    """A service. `addresses` lists `host:port` of each replica by port name. A target may list one
    host name that stands for all replicas."""

    url: pulumi.Output[str]
    addresses: pulumi.Output[dict[str, list[str]]]
    native: pulumi.Resource
    ready: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A program that runs to completion.

    It runs when it is created and when its command or Python environment changes. A changed
    environment variable, such as a new address, starts no run. The program may write its outputs
    as JSON to the file MLOPS_OUTPUTS. `timeout` is in seconds.
    """

    command: Sequence[pulumi.Input[str]]
    environment: EnvironmentHandle
    env: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    secrets: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Environment variables that only the job may read."""
    calls: Sequence[ServiceHandle] = ()
    """Services that the job calls. Addresses outside the platform are always allowed."""
    resources: Resources = Resources()
    """Resources of each worker."""
    workers: int = 1
    """Processes of one distributed run. They get the environment variables of `torchrun` and of
    PyTorch's `env://` initialization. The outputs are those of rank 0."""
    run_on_change: bool = True
    """Whether the job runs during the update. Otherwise it runs only on a schedule or on demand."""
    timeout: float = 3600


@dataclass(frozen=True, kw_only=True)
class JobHandle:
    """A job, and the outputs of its last run."""

    name: str
    outputs: pulumi.Output[dict[str, Any]]
    native: pulumi.Resource
    ready: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class ScheduleSpec:
    """When a job runs. `cron` has five crontab fields, `timezone` is an IANA time zone."""

    job: JobHandle
    cron: str
    timezone: str = "UTC"


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A service behind a route. `weight` is its percentage of the requests."""

    service: ServiceHandle
    weight: int
    check_path: str


@dataclass(frozen=True, kw_only=True)
class AnalysisSpec:
    """The analysis of the first requests of a backend that has had no requests so far.

    If more than the share `max_error_rate` of at least `min_requests` responses have a 5xx status
    other than 503 and 504 within `seconds`, the previous weights are in effect again and the update
    fails. 0 seconds: no analysis.
    """

    seconds: float = 10
    min_requests: int = 20
    max_error_rate: float = 0.05


@dataclass(frozen=True, kw_only=True)
class RouteSpec:
    """One URL in front of several services. The weights of `backends` sum to 100."""

    endpoint: str
    backends: Mapping[str, Backend]
    port: int | None = None
    analysis: AnalysisSpec | None = None
    """Default: the target's default."""
    hosts: Sequence[str] = ()
    """Public host names, if the target's routes are selected by host name."""


@dataclass(frozen=True, kw_only=True)
class RouteHandle:
    """A route. `metrics_url` is None if the target provides no metrics of the route."""

    url: pulumi.Output[str]
    metrics_url: pulumi.Output[str] | None
    native: pulumi.Resource
    ready: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class SecretSpec:
    """A generated secret. With `retain` it outlives the stack, like the data that it protects."""

    length: int = 32
    retain: bool = False


@dataclass(frozen=True, kw_only=True)
class VolumeHandle:
    """Storage that outlives the programs that use it."""

    path: pulumi.Output[str]
    retain: bool
    native: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class DatabaseSpec:
    """A database: `sqlite` for one client, `postgresql` for several. With `retain` its
    data outlives the stack. With `url` nothing is provisioned and that database is used."""

    engine: str = "sqlite"
    url: pulumi.Input[str] | None = None
    retain: bool = True


@dataclass(frozen=True, kw_only=True)
class DatabaseHandle:
    """A database. `url` is an SQLAlchemy URL, a secret if it contains a password."""

    url: pulumi.Output[str]
    requirements: Sequence[str]
    """Requirements of a Python client in addition to SQLAlchemy."""
    data: VolumeHandle | None
    """The volume that the client must have as `data`, if the database is a file."""
    services: Sequence[ServiceHandle]
    """The services that the client must list in `calls`."""
    shared: bool
    """Whether several clients may use the database. A separate job then migrates its tables before
    they start."""
    native: pulumi.Resource | None = None
    ready: pulumi.Resource | None = None
    """None for an existing database."""

    @property
    def outside(self) -> bool:
        """Whether the database is an existing one, outside the platform."""
        return self.native is None


@dataclass(frozen=True, kw_only=True)
class BucketSpec:
    """A bucket of an S3-compatible store."""

    bucket: pulumi.Input[str]
    endpoint_url: pulumi.Input[str]
    region: pulumi.Input[str] = "us-east-1"
    access_key_id: pulumi.Input[str] | None = None
    """Default: boto3's credential chain."""
    secret_access_key: pulumi.Input[str] | None = None
    versioning: bool = False
    lifecycle: Mapping[str, int] | None = None
    """Lifecycle rules in days: `expireNoncurrentDays`, `abortIncompleteUploadDays`."""
    encryption: Literal["AES256", "aws:kms"] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    public_access_block: bool | None = None
    """Whether public access to the bucket is blocked. Default: yes, if the store supports it."""
    retain: bool = True
    calls: Sequence[ServiceHandle] = ()
    """The service of the store, if it is part of the platform."""


@dataclass(frozen=True, kw_only=True)
class BucketHandle:
    """A bucket. `uri` is `s3://bucket`, known when the bucket exists."""

    uri: pulumi.Output[str]
    native: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class ModelVersionSpec:
    """A version in a model registry, looked up once `after` is known."""

    tracking_uri: pulumi.Input[str]
    model: str
    version: str
    username: pulumi.Input[str] | None = None
    password: pulumi.Input[str] | None = None
    after: pulumi.Input[Any] = None
    read_requirements: bool = False
    """Whether the requirements and the Python version of the model are read as well."""


@dataclass(frozen=True, kw_only=True)
class ModelVersionHandle:
    """A model version. `example` is the input example that the model was logged with, or empty.
    `source` is the URI of its files, or empty. `ready` is None if the version is looked up only
    when its files are fetched."""

    example: pulumi.Output[str]
    source: pulumi.Output[str]
    ready: pulumi.Resource | None
    requirements: pulumi.Output[list[str]] | None = None
    """The requirements that MLflow stored with the version, if `read_requirements`. None if the
    target does not read the registry."""
    python: pulumi.Output[str] | None = None
    """The Python version that MLflow stored with the version, such as `3.11`."""


@dataclass(frozen=True, kw_only=True)
class ClientSettingsHandle:
    """The client settings file on the machine that runs the update, at `path`."""

    path: pulumi.Output[str]
    native: pulumi.Resource
