"""The handles of the target, and functions that read the handles in a spec."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from ..port import EnvironmentHandle, JobHandle, ServiceHandle
from . import manifests


@dataclass(frozen=True, kw_only=True)
class ImageHandle(EnvironmentHandle):
    """A Python environment as a container image."""

    reference: pulumi.Input[str]


@dataclass(frozen=True, kw_only=True)
class WorkloadHandle(ServiceHandle):
    """A service and the details of it that routes and callers need."""

    service_name: str
    ports: Mapping[str, int]
    """The ports that other programs call, by name."""
    labels: Mapping[str, str]
    """The labels that select its pods."""


@dataclass(frozen=True, kw_only=True)
class ClusterJobHandle(JobHandle):
    """A job and the spec that scheduled runs are created from."""

    spec: Mapping[str, Any]


def image_reference(environment: EnvironmentHandle) -> pulumi.Input[str]:
    """The image of an environment. Raises pulumi.RunError for an environment of another target."""
    if not isinstance(environment, ImageHandle):
        raise pulumi.RunError(
            "the Python environment belongs to another target: use the same `target` for both"
        )
    return environment.reference


def environment_resources(environment: EnvironmentHandle) -> list[pulumi.Resource]:
    """The resources that must exist before a pod can use the environment."""
    return [] if environment.native is None else [environment.native]


def workloads(services: Sequence[ServiceHandle]) -> list[WorkloadHandle]:
    """The services that this target provisioned."""
    return [each for each in services if isinstance(each, WorkloadHandle)]


def calls_labels(services: Sequence[ServiceHandle]) -> dict[str, str]:
    """The labels of a pod that calls these services."""
    return {manifests.calls_label(each.service_name): "true" for each in workloads(services)}


def callee_ports(services: Sequence[ServiceHandle]) -> list[tuple[Mapping[str, str], list[int]]]:
    """The pod labels and the ports of these services."""
    return [(each.labels, sorted(each.ports.values())) for each in workloads(services)]


def known_after(ready: pulumi.Resource, value: Any) -> pulumi.Output[Any]:
    """`value` as an Output that is known at preview. Resources that use it depend on `ready`."""
    return ready.urn.apply(lambda _: value)


def metadata_field(metadata: Any, name: str) -> Any:
    """A field of an object's metadata, or None if the object has not been on a cluster."""
    return metadata.get(name) if isinstance(metadata, Mapping) else getattr(metadata, name, None)


def short_digest(value: Any) -> pulumi.Output[str]:
    """Eight hexadecimal digits that change with `value`."""
    return pulumi.Output.json_dumps(value).apply(
        lambda text: hashlib.sha256(text.encode()).hexdigest()[:8]
    )
