"""MonitoringStack: scrapes every service and shows a live page."""

from __future__ import annotations

import json
import typing

import pulumi
from pydantic import Field

from .spec import Number, Port, ResourceSettings, Spec
from .targets.port import (
    EnvironmentSpec,
    Health,
    ServiceSpec,
    resolve,
    resources_of,
    runtime_folder,
)
from .training import requirements_of


class MonitoringStackSettings(Spec):
    """What a stack's configuration may say of monitoring."""

    interval: Number = Field(5, ge=1, le=3600, description="Seconds from scrape to scrape.")
    port: Port | None = Field(None, description="Port of the page; a free one unless told.")
    resources: ResourceSettings = Field(ResourceSettings(), description="What it takes.")


class MonitoringStackArgs(typing.TypedDict):
    """What a MonitoringStack takes."""

    scrape: typing.Mapping[str, pulumi.Input[typing.Any]]
    """What is scraped: the `scrape` of each component, put together."""
    links: typing.NotRequired[typing.Mapping[str, pulumi.Input[str]]]
    """Pages that the live page leads to, by title."""
    interval: typing.NotRequired[float]
    """Seconds from scrape to scrape; 5 unless told."""
    port: typing.NotRequired[int]
    """Port of the page; a free one unless told."""
    resources: typing.NotRequired[typing.Mapping[str, typing.Any]]
    """`cpu` in cores, `memory` as in `2Gi`, `gpu`; the target's defaults unless told."""
    target: typing.NotRequired[str]
    """Where it runs; the stack's `mlops:target` unless told."""


class _MonitoringStackSpec(MonitoringStackSettings):
    scrape: typing.Any
    links: typing.Any = None
    target: str | None = None


class MonitoringStack(pulumi.ComponentResource):
    """A page with the state of every service, and its metrics for a Prometheus to collect."""

    url: pulumi.Output[str]
    """The live page; `/federate` has all metrics, `/sd` what is scraped, `/api/status` the page's
    content."""

    def __init__(
        self,
        name: str,
        args: MonitoringStackArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        spec = _MonitoringStackSpec.of(name, args)
        super().__init__("mlops:index:MonitoringStack", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        target = resolve(spec.target)
        runtime = runtime_folder()
        server = target.service(
            f"{name}-server",
            ServiceSpec(
                environment=target.environment(
                    f"{name}-environment",
                    EnvironmentSpec(
                        requirements=requirements_of(name, "requirements-monitor.txt", runtime),
                        code={"pulumi_mlops/runtime": runtime},
                    ),
                    child,
                ),
                command=["python", "-m", "pulumi_mlops.runtime.monitor"],
                env={
                    "MLOPS_STACK": pulumi.get_stack(),
                    "MLOPS_TARGETS_DIR": "$(FILES_DIR)",
                    "MLOPS_LINKS": pulumi.Output.json_dumps(spec.links or {}),
                    "MLOPS_SCRAPE_INTERVAL": f"{spec.interval:g}",
                },
                # A file each, so that a diff shows the one that changes.
                files={f"{name}.json": _json(target) for name, target in spec.scrape.items()},
                rereads_files=True,
                ports={"http": spec.port},
                health=Health(path="/health"),
                watches=True,
                public=True,
                resources=resources_of(spec.resources),
            ),
            child,
        )
        self.url = server.url
        self.register_outputs({"url": self.url})


def _json(target: pulumi.Input[typing.Any]) -> pulumi.Output[str]:
    if isinstance(target, pulumi.Output):
        # One output; json_dumps makes one of every value inside, and there are two targets or more
        # an endpoint.
        return target.apply(json.dumps)
    return pulumi.Output.json_dumps(target)
