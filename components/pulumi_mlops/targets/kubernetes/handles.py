"""What the target hands back, and what one ask needs of what another one made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from ..port import Environment, Job, Service
from . import manifests


@dataclass(frozen=True, kw_only=True)
class Image(Environment):
    """An environment as an image."""

    reference: str


@dataclass(frozen=True, kw_only=True)
class Workload(Service):
    """A service and what else of it a route needs."""

    service_name: str
    numbers: Mapping[str, int]
    """Its ports that others call."""
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ClusterJob(Job):
    """A job and what a schedule makes its runs from."""

    template: Mapping[str, Any]


def image_of(environment: Environment) -> str:
    """What a pod has for this environment. Raises pulumi.RunError for one of another target."""
    if not isinstance(environment, Image):
        raise pulumi.RunError("a pod needs an environment of the kubernetes target")
    return environment.reference


def made_before(environment: Environment) -> list[pulumi.Resource]:
    """What has to be there before a pod can have this environment."""
    return [] if environment.native is None else [environment.native]


def calling(services: Sequence[Service]) -> dict[str, str]:
    """The labels of a pod that calls these."""
    found = [each for each in services if isinstance(each, Workload)]
    return {manifests.calls_label(each.service_name): "true" for each in found}


def called(services: Sequence[Service]) -> list[tuple[Mapping[str, str], list[int]]]:
    """The labels of the pods of these, and the ports that others call."""
    found = [each for each in services if isinstance(each, Workload)]
    return [(each.labels, sorted(each.numbers.values())) for each in found]


def once(ready: pulumi.Resource, value: Any) -> pulumi.Output[Any]:
    """`value`, known in the preview too; what uses it waits until `ready` is made."""
    return ready.urn.apply(lambda _: value)


def member(found: Any, name: str) -> Any:
    """A member of an object's metadata; None where there was no cluster to ask."""
    return found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)


def short_digest(value: Any) -> pulumi.Output[str]:
    """Eight hexadecimal digits that change with `value`."""
    return pulumi.Output.json_dumps(value).apply(
        lambda text: hashlib.sha256(text.encode()).hexdigest()[:8]
    )
