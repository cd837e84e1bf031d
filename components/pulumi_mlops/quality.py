"""QualityMonitor: joins labels with the prediction log, and publishes quality and drift."""

from __future__ import annotations

import json
import typing

import pulumi
from pydantic import Field, model_validator

from .artifacts import ArtifactStore
from .requirements import read_requirements
from .spec import Number, OnTarget, Port, ResourceSettings, Spec, Whole, located
from .targets.port import (
    DatabaseSpec,
    EnvironmentSpec,
    Health,
    ServiceSpec,
    resolve,
    resources_of,
    runtime_folder,
)

if typing.TYPE_CHECKING:
    from .args import QualityMonitorArgs

_SECONDS_PER_DAY = 86_400


class EndpointQuality(Spec):
    """The quality monitoring of an endpoint: its task, its labels and its windows."""

    task: typing.Literal["classification", "regression"] = Field(
        description="What the model predicts: classes or numbers."
    )
    label: str = Field(
        "label",
        min_length=1,
        description="Name of the label: its key in JSON, its column in files.",
    )
    classes: list[str] = Field(
        [],
        description="Names of the classes, in the order of the probabilities in a model's output. "
        "Required only for outputs that are lists of probabilities.",
    )
    positive: str | None = Field(
        None,
        description="The class that precision, recall and F1 are about. Default: the mean over "
        "all classes.",
    )
    slices: list[str] = Field(
        [],
        description="Names of input columns. Each of their values gets its own metrics, at most 20 "
        "for a column.",
    )
    window: Number = Field(3600, ge=5, le=2_678_400, description="Seconds of a window.")
    label_horizon: Number = Field(
        30,
        gt=0,
        le=400,
        description="Days within which labels are joined. The database keeps the predictions of "
        "these days.",
    )
    min_coverage: Number = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of the predictions of a window that must have a label. A window with "
        "less publishes no metrics.",
    )
    reference_rows: Whole = Field(
        1000,
        ge=500,
        le=100_000,
        description="First logged rows of a version: the reference of its drift.",
    )
    min_samples: Whole = Field(
        500, ge=500, le=2000, description="Rows that a window needs for a test of drift."
    )
    drift_alpha: Number = Field(
        0.01,
        gt=0,
        lt=1,
        description="Probability that a window of identical data is reported, over all features.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> typing.Self:
        found = []
        if self.task == "regression":
            found += [
                ((name,), "is only for the task classification: remove it, or change the task")
                for name in ("classes", "positive")
                if getattr(self, name)
            ]
        elif self.classes and self.positive is not None and self.positive not in self.classes:
            found.append((("positive",), f"must be one of classes: {', '.join(self.classes)}"))
        if len(set(self.classes)) < len(self.classes):
            found.append((("classes",), "has a class twice"))
        if self.label_horizon * _SECONDS_PER_DAY < self.window:
            found.append((("label_horizon",), "must be at least as long as the window"))
        if self.reference_rows < self.min_samples:
            found.append((("reference_rows",), f"must be at least min_samples, {self.min_samples}"))
        if found:
            raise located(found)
        return self


class QualityMonitorSettings(Spec):
    """The quality service: one for all endpoints. Provisioned if an endpoint declares `quality`."""

    database: typing.Literal["sqlite", "postgresql"] = Field(
        "sqlite", description="Database of labels, results and the position in the log."
    )
    interval: Number = Field(
        15, ge=1, le=3600, description="Seconds between two passes over the prediction log."
    )
    port: Port | None = Field(None, description="Port of the service. Default: an unused port.")
    retain: bool = Field(True, description="Keep labels and results when it is deleted.")
    resources: ResourceSettings = Field(
        ResourceSettings(), description="CPU, memory and GPUs of the service."
    )


class QualityMonitorSpec(QualityMonitorSettings, OnTarget):
    """Inputs of a QualityMonitor."""

    artifact_store: ArtifactStore = Field(
        description="Store with the prediction log and with label files."
    )
    endpoints: dict[str, EndpointQuality] = Field(
        min_length=1, description="The endpoints to monitor, by their `label`."
    )


class QualityMonitor(pulumi.ComponentResource):
    """A service that accepts labels and publishes quality and drift of endpoints.

    Raises pulumi.RunError for invalid inputs.
    """

    url: pulumi.Output[str]
    """URL of the service: the value of MLOPS_QUALITY_URL for clients."""

    def __init__(
        self,
        name: str,
        args: QualityMonitorArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        spec = QualityMonitorSpec.of(name, args)
        super().__init__("mlops:index:QualityMonitor", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        target = resolve(spec.target)
        runtime = runtime_folder()
        store = spec.artifact_store
        database = target.database(
            f"{name}-database", DatabaseSpec(engine=spec.database, retain=spec.retain), child
        )
        server = target.service(
            f"{name}-server",
            ServiceSpec(
                environment=target.environment(
                    f"{name}-environment",
                    EnvironmentSpec(
                        requirements=[
                            *read_requirements(name, "requirements-quality.txt", runtime).lines,
                            *database.requirements,
                        ],
                        code={"pulumi_mlops/runtime": runtime},
                    ),
                    child,
                ),
                command=["python", "-m", "pulumi_mlops.runtime.quality"],
                env={
                    "MLOPS_ARTIFACT_STORE": store.uri,
                    "MLOPS_ENDPOINTS_DIR": "$(FILES_DIR)",
                    "MLOPS_QUALITY_INTERVAL": f"{spec.interval:g}",
                    **store.env,
                },
                secrets={"MLOPS_DATABASE_URL": database.url, **store.secrets},
                # One file per endpoint, so that a diff shows only the endpoint that changes.
                files={
                    f"{label}.json": json.dumps(
                        {"name": label, **endpoint.model_dump(exclude_defaults=True)}, indent=1
                    )
                    for label, endpoint in spec.endpoints.items()
                },
                data=database.data,
                ports={"http": spec.port},
                health=Health(path="/health"),
                calls=[*store.services, *database.services],
                calls_outside=not store.services or database.outside,
                public=True,
                resources=resources_of(spec.resources),
                stop_seconds=30,
            ),
            pulumi.ResourceOptions(
                parent=self, depends_on=[] if database.ready is None else [database.ready]
            ),
        )
        self.url = server.url
        self.scrape = {
            f"{name}-server": {
                "job": "quality",
                "instance": f"{name}-server",
                "url": self.url.apply(lambda url: f"{url}/metrics"),
                "health_url": self.url.apply(lambda url: f"{url}/health"),
            }
        }
        self.register_outputs({"url": self.url})
