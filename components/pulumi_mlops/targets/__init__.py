"""The port: what a component may ask of the place that it runs on, in plain values.

A target answers with resources of its own kind and hands back a handle; no component ever learns
which target it was. In commands and environment variables `$(NAME)` stands for a variable, as in
Kubernetes; every service has HOST and PORT, one with data has DATA_DIR, one with files FILES_DIR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import pulumi


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
    native: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class Health:
    """When a service is ready: `path` of the port called `port` answers 200, and its JSON has the
    members `expect`. Without a path an open port is enough. `timeout` is in seconds."""

    path: str | None = None
    port: str = "http"
    expect: Mapping[str, Any] | None = None
    timeout: float = 120


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """A program that stays up and answers on ports."""

    command: Sequence[pulumi.Input[str]]
    environment: Environment
    env: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    ports: Mapping[str, int | None] = field(default_factory=lambda: {"http": None})
    """Ports by name; None lets the target choose a free one."""
    files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Private files by name, found in FILES_DIR."""
    rereads_files: bool = False
    """Whether it notices a changed file by itself; else it is restarted."""
    data: Volume | None = None
    health: Health = Health()
    replicas: int = 1
    routed: bool = False
    """Whether only a route calls it: it then changes by a second one beside the first."""
    stop_seconds: float = 10


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a service became. `url` is where it answers; `addresses` has host:port of each replica
    by port name; `native` is the target's own resource, the escape hatch."""

    url: pulumi.Output[str]
    addresses: pulumi.Output[dict[str, list[str]]]
    native: pulumi.Resource


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A program that runs to completion when it is new or changed, and may leave outputs: JSON in
    the file that MLOPS_OUTPUTS names. `timeout` is in seconds."""

    command: Sequence[pulumi.Input[str]]
    environment: Environment
    env: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    run_on_change: bool = True
    timeout: float = 3600


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a job became, and what its last run left."""

    name: str
    outputs: pulumi.Output[dict[str, Any]]
    native: pulumi.Resource


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
    """What a route became, and where its own metrics are."""

    url: pulumi.Output[str]
    metrics_url: pulumi.Output[str]
    native: pulumi.Resource


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
    """A database: `sqlite` for one program, `postgresql` for many. `retain` keeps its data."""

    engine: str = "sqlite"
    retain: bool = True


@dataclass(frozen=True, kw_only=True)
class Database:
    """`url` is an SQLAlchemy URL, a secret where it has a password."""

    url: pulumi.Output[str]
    requirements: Sequence[str]
    """What a Python client needs beside SQLAlchemy."""
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

    def volume(self, name: str, retain: bool, opts: pulumi.ResourceOptions) -> Volume:
        """A place for data."""

    def database(self, name: str, spec: DatabaseSpec, opts: pulumi.ResourceOptions) -> Database:
        """A relational database."""

    def logs_dir(self) -> str | None:
        """Where logs are on this machine, or None where the target has its own way."""


def runtime_folder() -> Path:
    """Where the programs are that run inside what is provisioned."""
    return Path(__file__).parent.parent / "runtime"


ADAPTERS = {"local": "pulumi_mlops.targets.local:LocalTarget"}
"""Where each adapter is, by the target's name."""


def resolve(name: str | None = None) -> Target:
    """The adapter called `name`, or the stack's `mlops:target`; `local` when neither is set.

    Its imports are paid only now. Raises pulumi.RunError for a name that no adapter has.
    """
    name = name or pulumi.Config("mlops").get("target") or "local"
    try:
        module, _, cls = ADAPTERS[name].partition(":")
    except KeyError:
        known = ", ".join(ADAPTERS)
        raise pulumi.RunError(f"mlops:target {name!r} is unknown: choose one of {known}") from None
    target: Target = getattr(import_module(module), cls)()
    return target
