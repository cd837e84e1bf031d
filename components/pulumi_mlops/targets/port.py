"""The port: the requests that a component sends to its target.

A component describes what it needs by the specs of this module and never learns which target
provisions it. The adapter of a target answers each request with resources of its own and returns a
handle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pulumi
from pydantic import ValidationError

from ..sources import find_project
from ..spec import FromSecret, ResourceSettings, SecretKeyRef, Spec, problems
from ..stackdir import data_folder_problem
from . import registry
from .capabilities import Capability
from .specs import (
    AnalysisSpec,
    Backend,
    BucketHandle,
    BucketSpec,
    ClientSettingsHandle,
    CopySpec,
    DatabaseHandle,
    DatabaseSpec,
    EnvironmentHandle,
    EnvironmentSpec,
    FetchedFilesHandle,
    FetchedFilesSpec,
    Health,
    JobHandle,
    JobSpec,
    ModelVersionHandle,
    ModelVersionSpec,
    Resources,
    RouteHandle,
    RouteSpec,
    ScheduleSpec,
    SecretSpec,
    ServiceHandle,
    ServiceSpec,
    VolumeHandle,
)

__all__ = [
    "AnalysisSpec",
    "Backend",
    "BucketHandle",
    "BucketSpec",
    "Capability",
    "ClientSettingsHandle",
    "CopySpec",
    "DatabaseHandle",
    "DatabaseSpec",
    "EnvironmentHandle",
    "EnvironmentSpec",
    "FetchedFilesHandle",
    "FetchedFilesSpec",
    "Health",
    "JobHandle",
    "JobSpec",
    "ModelVersionHandle",
    "ModelVersionSpec",
    "Resources",
    "RouteHandle",
    "RouteSpec",
    "ScheduleSpec",
    "SecretSpec",
    "ServiceHandle",
    "ServiceSpec",
    "Target",
    "VolumeHandle",
    "resolve",
    "resources_of",
    "runtime_folder",
    "stack_folder",
    "stack_settings",
    "text_of",
    "unsupported",
]

S = TypeVar("S", bound=Spec)

BUCKET_CLIENT = "boto3==1.44.5"
"""Requirement of a program that accesses a bucket."""


class Target(Protocol):
    """The adapter of a target: one method per request of the port.

    A request that the target does not support raises pulumi.RunError at preview; see `unsupported`.
    """

    def environment(
        self, name: str, spec: EnvironmentSpec, opts: pulumi.ResourceOptions
    ) -> EnvironmentHandle:
        """Provision a Python environment for commands."""

    def service(self, name: str, spec: ServiceSpec, opts: pulumi.ResourceOptions) -> ServiceHandle:
        """Provision a program that keeps running."""

    def job(self, name: str, spec: JobSpec, opts: pulumi.ResourceOptions) -> JobHandle:
        """Provision a program that runs to completion."""

    def schedule(
        self, name: str, spec: ScheduleSpec, opts: pulumi.ResourceOptions
    ) -> ServiceHandle | None:
        """Run a job on a schedule. Returns the scheduler if it is a program of the stack."""

    def route(self, name: str, spec: RouteSpec, opts: pulumi.ResourceOptions) -> RouteHandle:
        """Provision one URL in front of several services."""

    def secret(
        self, name: str, spec: SecretSpec, opts: pulumi.ResourceOptions
    ) -> pulumi.Output[str]:
        """Generate a secret and return its value."""

    def existing_secret(self, ref: SecretKeyRef) -> pulumi.Output[str]:
        """Read a value of a Secret that the stack does not manage."""

    def volume(self, name: str, retain: bool, opts: pulumi.ResourceOptions) -> VolumeHandle:
        """Provision a volume. With `retain` its data outlives the stack."""

    def database(
        self, name: str, spec: DatabaseSpec, opts: pulumi.ResourceOptions
    ) -> DatabaseHandle:
        """Provision a relational database."""

    def bucket(self, name: str, spec: BucketSpec, opts: pulumi.ResourceOptions) -> BucketHandle:
        """Provision a bucket, in an existing store or in a service of the stack."""

    def model_version(
        self, name: str, spec: ModelVersionSpec, opts: pulumi.ResourceOptions
    ) -> ModelVersionHandle:
        """Look up a registered version of a model."""

    def fetched_files(
        self, name: str, spec: FetchedFilesSpec, opts: pulumi.ResourceOptions
    ) -> FetchedFilesHandle:
        """Fetch files by a program, for services."""

    def client_settings(
        self, name: str, env: pulumi.Output[Mapping[str, str]], opts: pulumi.ResourceOptions
    ) -> ClientSettingsHandle:
        """Write the environment variables `env` to the file that clients of the platform source."""

    def logs_dir(self) -> str | None:
        """The folder with the logs on this machine, or None if the target keeps logs elsewhere."""


def unsupported(name: str, item: str, capability: Capability, fix: str) -> pulumi.RunError:
    """The error of a request that the target does not support.

    `name` is the name of the resource, `item` is the input or the request that needs the
    capability. `fix` is what the user can change without selecting another target.
    """
    supporting = registry.supporting(capability)
    if supporting:
        choice = (
            f"select a target that supports {capability} (mlops:target): {', '.join(supporting)}"
        )
    else:
        choice = f"install a target with {capability}: no installed target supports it"
    return pulumi.RunError(f"{name}: {item} is not supported by this target: {fix}, or {choice}")


def resources_of(settings: ResourceSettings) -> Resources:
    """The resource settings of a component as a value of the port."""
    return Resources(cpu=settings.cpu, memory=settings.memory, gpu=settings.gpu)


def text_of(target: Target, value: Any) -> Any:
    """The text of a SecretText input. A reference to an existing Secret is read from the target."""
    return target.existing_secret(value.secret_key_ref) if isinstance(value, FromSecret) else value


def stack_folder() -> Path:
    """The folder with the local files of this stack, below `mlops:dataDir`. Default: `.mlops` in
    the project folder."""
    base = pulumi.Config("mlops").get("dataDir") or find_project() / ".mlops"
    if isinstance(base, str) and (problem := data_folder_problem(base, Path.cwd())) is not None:
        raise pulumi.RunError(f"mlops:dataDir: {problem}")
    return Path(base).expanduser().absolute() / pulumi.get_stack()


def runtime_folder() -> Path:
    """The folder with the code of the programs that run inside services and jobs."""
    return Path(__file__).parent.parent / "runtime"


def resolve(name: str | None = None) -> Target:
    """The adapter of the target called `name`. Default: the stack's `mlops:target`.

    Raises pulumi.RunError if no installed target has that name.
    """
    name = name or pulumi.Config("mlops").get("target") or registry.DEFAULT
    try:
        return registry.load(name).adapter()
    except registry.UnknownTargetError as error:
        raise pulumi.RunError(str(error)) from None


def stack_settings(name: str, model: type[S]) -> S:
    """The part of the stack configuration that belongs to the target `name`, `mlops:<name>`.

    Raises pulumi.RunError with one line per problem.
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
