"""MonitoringStack: scrapes every service and serves the dashboard."""

from __future__ import annotations

import json
import typing

import pulumi
from pydantic import Field

from .requirements import read_requirements
from .spec import Number, OnTarget, OrOutput, Port, ResourceSettings, Spec
from .targets.port import (
    EnvironmentSpec,
    Health,
    ServiceSpec,
    resolve,
    resources_of,
    runtime_folder,
)

if typing.TYPE_CHECKING:
    from .args import MonitoringStackArgs


class MonitoringStackSettings(Spec):
    """The monitor: the dashboard and the metrics of every service."""

    interval: Number = Field(5, ge=1, le=3600, description="Seconds between two scrapes.")
    port: Port | None = Field(None, description="Port of the dashboard. Default: an unused port.")
    resources: ResourceSettings = Field(
        ResourceSettings(), description="CPU, memory and GPUs of the monitor."
    )


class MonitoringStackSpec(MonitoringStackSettings, OnTarget):
    """Inputs of a MonitoringStack."""

    scrape: dict[str, OrOutput[typing.Any]] = Field(
        description="Services to scrape, by name: the merged `scrape` of the components."
    )
    links: dict[str, OrOutput[str]] = Field(
        {}, description="URLs that the dashboard links to, by title."
    )


class MonitoringStack(pulumi.ComponentResource):
    """The monitor: a dashboard with the state of every service, and all metrics for Prometheus."""

    url: pulumi.Output[str]
    """URL of the dashboard. `/federate` returns all metrics, `/sd` the scraped services for the
    service discovery of Prometheus, `/api/status` the content of the dashboard as JSON."""

    def __init__(
        self,
        name: str,
        args: MonitoringStackArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        spec = MonitoringStackSpec.of(name, args)
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
                        requirements=read_requirements(
                            name, "requirements-monitor.txt", runtime
                        ).lines,
                        code={"pulumi_mlops/runtime": runtime},
                    ),
                    child,
                ),
                command=["python", "-m", "pulumi_mlops.runtime.monitor"],
                env={
                    "MLOPS_STACK": pulumi.get_stack(),
                    "MLOPS_TARGETS_DIR": "$(FILES_DIR)",
                    "MLOPS_LINKS": pulumi.Output.json_dumps(spec.links),
                    "MLOPS_SCRAPE_INTERVAL": f"{spec.interval:g}",
                },
                # One file per service, so that a diff shows only the service that changes.
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
        # One Output. json_dumps would create one for each value inside, for several services of
        # each endpoint.
        return target.apply(json.dumps)
    return pulumi.Output.json_dumps(target)
