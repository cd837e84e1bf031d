"""MlopsPlatform: all components of the platform, from one stack configuration."""

from __future__ import annotations

import asyncio
import typing
from collections.abc import Collection, Mapping

import pulumi

from .artifacts import ArtifactStore
from .config import PlatformConfig, check_files, parse
from .monitoring import MonitoringStack
from .quality import QualityMonitor
from .serving import ServingEndpoint
from .spec import Checked, Spec
from .targets.port import resolve
from .tracking import TrackingServer
from .training import Pipeline, TrainingRunner


class MlopsPlatform(pulumi.ComponentResource):
    """Artifact store, tracking, training, endpoints, quality and monitoring, connected.

    Raises pulumi.RunError with one line per problem of the configuration.
    """

    client_env: pulumi.Output[dict[str, str]]
    """The environment variables that clients of the platform need. A secret."""

    def __init__(
        self,
        name: str,
        config: PlatformConfig | Mapping[str, typing.Any] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Provision the platform of `config`. Default: every input has its default."""
        if not isinstance(config, PlatformConfig):
            config = parse(config or {})
        check_files(config)
        super().__init__("mlops:index:MlopsPlatform", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.artifacts = ArtifactStore(f"{name}-artifacts", _args(config.artifacts), child)
        self.tracking = TrackingServer(
            f"{name}-tracking",
            _args(config.tracking, artifact_store=self.artifacts),
            child,
        )
        self.training = TrainingRunner(
            f"{name}-training",
            _args(config.training, tracking=self.tracking, artifact_store=self.artifacts),
            child,
        )
        self.pipelines = {
            key: Pipeline(f"{name}-{key}-pipeline", _args(part, runner=self.training), child)
            for key, part in config.pipelines.items()
        }
        self.endpoints = {}
        for key, part in config.endpoints.items():
            pipeline = self.pipelines.get(part.pipeline or "")
            self.endpoints[key] = ServingEndpoint(
                f"{name}-{key}-endpoint",
                _args(
                    part,
                    omit=("pipeline", "quality"),
                    label=key,
                    tracking=self.tracking,
                    artifact_store=self.artifacts,
                    after=pipeline.outputs if pipeline else None,
                ),
                child,
            )
        self.quality: QualityMonitor | None = None
        monitored = {key: part.quality for key, part in config.endpoints.items() if part.quality}
        if monitored:
            self.quality = QualityMonitor(
                f"{name}-quality",
                _args(config.quality, artifact_store=self.artifacts, endpoints=monitored),
                child,
            )
        self.monitoring: MonitoringStack | None = None
        if config.monitoring.enabled:
            scrape = {**self.artifacts.scrape, **self.tracking.scrape}
            components: list[Pipeline | ServingEndpoint | QualityMonitor]
            components = [*self.pipelines.values(), *self.endpoints.values()]
            if self.quality is not None:
                components.append(self.quality)
            for component in components:
                scrape |= component.scrape
            self.monitoring = MonitoringStack(
                f"{name}-monitoring",
                _args(
                    config.monitoring,
                    omit=("enabled",),
                    scrape=scrape,
                    links={"Experiments and models": self.tracking.url},
                ),
                child,
            )
        variables = [self.tracking.client_env, self.artifacts.client_env]
        if self.quality is not None:
            variables.append(self.quality.url.apply(lambda url: {"MLOPS_QUALITY_URL": url}))
        self.client_env = pulumi.Output.secret(
            pulumi.Output.all(*variables).apply(
                lambda parts: {name: value for part in parts for name, value in part.items()}
            )
        )
        target = resolve()
        self.client_settings = target.client_settings(f"{name}-client-env", self.client_env, child)
        self.logs_dir = target.logs_dir()
        self.register_outputs({"tracking_url": self.tracking.url})

    def export(self) -> None:
        """Export the stack outputs: URLs, traffic tables, client settings and log folder."""
        pulumi.export("tracking_url", self.tracking.url)
        pulumi.export("s3_endpoint_url", self.artifacts.endpoint_url)
        pulumi.export("artifact_store", self.artifacts.uri)
        pulumi.export(
            "endpoints",
            {
                key: {
                    "url": endpoint.url,
                    "model": endpoint.model,
                    "versions": list(endpoint.traffic),
                    "traffic": endpoint.traffic,
                }
                for key, endpoint in self.endpoints.items()
            },
        )
        if self.endpoints:
            pulumi.export("try_it", next(iter(self.endpoints.values())).try_it)
        pulumi.export("dashboard_url", self.monitoring.url if self.monitoring else None)
        if self.quality is not None:
            pulumi.export("quality_url", self.quality.url)
        pulumi.export("client_env", self.client_env)
        pulumi.export("client_env_file", self.client_settings.path)
        pulumi.export("logs_dir", self.logs_dir)

    async def registered(self) -> None:
        """Wait until the endpoints are registered. Makes a program with many endpoints faster.

        When a program ends, Pulumi's SDK checks all pending values each time that one of them
        resolves. After this wait few values are pending.
        """
        await asyncio.gather(*(endpoint.url.future() for endpoint in self.endpoints.values()))


def _args(spec: Spec, *, omit: Collection[str] = (), **connections: typing.Any) -> typing.Any:
    """The args of a component: the inputs that were set, and the components that it connects to."""
    inputs = {name: getattr(spec, name) for name in spec.model_fields_set if name not in omit}
    return Checked({**inputs, **connections})
