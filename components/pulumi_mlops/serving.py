"""ServingEndpoint: pinned versions of a registered model behind one URL."""

from __future__ import annotations

import hashlib
import shlex
import typing

import pulumi
from pydantic import Field

from .artifacts import PREDICTIONS, ArtifactStore
from .model_server_environment import environment_of_version, server_environment
from .requirements import read_requirements
from .runtime.model_files import MODEL_FOLDER
from .runtime.model_names import path_segment
from .serving_settings import AnalysisSettings, ServingEndpointSettings
from .sources import find_project
from .spec import (
    OnTarget,
    OrOutput,
)
from .targets.port import (
    AnalysisSpec,
    Backend,
    CopySpec,
    EnvironmentHandle,
    FetchedFilesSpec,
    Health,
    ModelVersionSpec,
    RouteSpec,
    ServiceSpec,
    resolve,
    resources_of,
)
from .tracking import TrackingServer

if typing.TYPE_CHECKING:
    from .args import ServingEndpointArgs


class ServingEndpointSpec(ServingEndpointSettings, OnTarget):
    """Inputs of a ServingEndpoint."""

    tracking: TrackingServer = Field(description="Tracking server that has the registered model.")
    artifact_store: ArtifactStore | None = Field(
        None, description="Store of the prediction log. Default: no prediction log."
    )
    after: OrOutput[typing.Any] = Field(
        None,
        description="A value to wait for before the versions are looked up, such as the `outputs` "
        "of the pipeline that registers them. Default: no wait.",
    )
    label: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="Name of the endpoint in metrics and in the prediction log. Default: the "
        "component's name.",
    )


class ServingEndpoint(pulumi.ComponentResource):
    """One stable URL in front of a service for each version of the traffic table.

    To promote a model version or to roll back, change the traffic table. The update fails if a
    model version does not become ready or if its server has another version. No request is sent to
    that server.
    """

    url: pulumi.Output[str]
    """URL that clients send requests to."""
    traffic: dict[str, int]
    """The traffic table."""
    try_it: pulumi.Output[str]
    """A `curl` command that sends the input example that the model was logged with. Empty if there
    is none."""

    def __init__(
        self,
        name: str,
        args: ServingEndpointArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        spec = ServingEndpointSpec.of(name, args)
        requirements = (
            None
            if spec.requirements is None
            else read_requirements(f"{name}.requirements", spec.requirements, find_project())
        )
        super().__init__("mlops:index:ServingEndpoint", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        target = resolve(spec.target)
        label = spec.label or name
        shared = (
            None
            if requirements is None
            else target.environment(
                f"{name}-environment",
                server_environment(requirements.lines, spec.python, requirements),
                child,
            )
        )
        self.scrape: dict[str, typing.Any] = {}
        backends = {}
        examples = {}
        client_env = {**spec.tracking.env, **spec.tracking.secrets}
        store = spec.artifact_store or spec.tracking.artifact_store
        env, secrets = _environment(name, label, spec)
        for version, weight in spec.traffic.items():
            model_version = target.model_version(
                f"{name}-v{version}-model",
                ModelVersionSpec(
                    tracking_uri=client_env["MLFLOW_TRACKING_URI"],
                    username=client_env.get("MLFLOW_TRACKING_USERNAME"),
                    password=client_env.get("MLFLOW_TRACKING_PASSWORD"),
                    model=spec.model,
                    version=version,
                    after=spec.after,
                    read_requirements=shared is None,
                ),
                child,
            )
            environment = shared or target.environment(
                f"{name}-v{version}-environment",
                environment_of_version(name, version, spec.python, model_version),
                child,
            )
            ready_path = f"/v2/models/{path_segment(spec.model)}/versions/{version}/ready"
            looked_up = pulumi.ResourceOptions.merge(
                child,
                pulumi.ResourceOptions(
                    depends_on=[] if model_version.ready is None else [model_version.ready]
                ),
            )
            files = target.fetched_files(
                f"{name}-v{version}-files",
                _model_files(name, spec, version, environment, model_version.source),
                looked_up,
            )
            service = target.service(
                f"{name}-v{version}",
                ServiceSpec(
                    environment=environment,
                    command=["python", "-m", "pulumi_mlops.runtime.model_server"],
                    env={**env, "MLOPS_MODEL_VERSION": version},
                    secrets=secrets,
                    fetched=files,
                    replicas=spec.replicas,
                    max_replicas=spec.max_replicas,
                    routed=True,
                    resources=resources_of(spec.resources),
                    calls=[spec.tracking.server, *store.services],
                    calls_outside=not store.services,
                    # A server that has loaded another version answers 404.
                    health=Health(path=ready_path, timeout=spec.startup_timeout),
                    stop_seconds=30,
                ),
                looked_up,
            )
            self.scrape[f"{name}-v{version}"] = _replicas_to_scrape(
                name, spec.model, version, service.addresses
            )
            examples[version] = model_version.example
            backends[f"v{version}"] = Backend(service=service, weight=weight, check_path=ready_path)
        route = target.route(
            f"{name}-route",
            RouteSpec(
                endpoint=label,
                backends=backends,
                port=spec.port,
                hosts=spec.hosts,
                analysis=_analysis(spec.analysis),
            ),
            child,
        )
        if route.metrics_url is not None:
            self.scrape[f"{name}-route"] = route.metrics_url.apply(
                lambda url: {
                    "job": "route",
                    "instance": f"{name}-route",
                    "url": url,
                    "health_url": None,
                }
            )
        main_version = max(spec.traffic, key=lambda version: spec.traffic[version])
        self.try_it = pulumi.Output.all(route.url, examples[main_version]).apply(_curl)
        self.url = route.url
        self.traffic = dict(spec.traffic)
        self.model = spec.model
        self.register_outputs({"url": self.url, "traffic": self.traffic})


def _environment(
    name: str, label: str, spec: ServingEndpointSpec
) -> tuple[dict[str, pulumi.Input[str]], dict[str, pulumi.Input[str]]]:
    """The environment variables of the model servers: the plain ones and the secret ones."""
    store = spec.artifact_store
    env: dict[str, pulumi.Input[str]] = {
        # Without a user name and password: a model is code, and runs in the server.
        "MLFLOW_TRACKING_URI": spec.tracking.url,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLOPS_ENDPOINT": label,
        "MLOPS_MODEL_NAME": spec.model,
        "MLOPS_MAX_QUEUE": str(spec.max_queue),
        "MLOPS_QUEUE_SECONDS": f"{spec.queue_timeout:g}",
        "MLOPS_MAX_BATCH": str(spec.batching.max_batch),
        "MLOPS_MAX_DELAY_SECONDS": f"{spec.batching.max_delay:g}",
        "MLOPS_MODEL_DIR": f"$(FETCHED_DIR)/{MODEL_FOLDER}",
    }
    if spec.check_output != "error":
        env["MLOPS_CHECK_OUTPUT"] = spec.check_output
    if spec.max_request_body is not None:
        env["MLOPS_MAX_BODY_BYTES"] = str(spec.max_request_body)
    secrets: dict[str, pulumi.Input[str]] = {}
    if store is not None and spec.prediction_log:
        env["MLOPS_PREDICTION_LOG"] = store.uri.apply(lambda uri: f"{uri}/{PREDICTIONS}")
        env["MLOPS_PREDICTION_LOG_SPOOL"] = f"$(SPOOL_DIR)/predictions/{name}"
        env |= store.prediction_log_env
        secrets |= store.prediction_log_secrets
    return env, secrets


def _model_files(
    name: str,
    spec: ServingEndpointSpec,
    version: str,
    environment: EnvironmentHandle,
    source: pulumi.Output[str],
) -> FetchedFilesSpec:
    """The files of a model version, fetched with the credentials of the tracking server."""
    store = spec.artifact_store or spec.tracking.artifact_store
    folder = f"served-models/{pulumi.get_project()}/{pulumi.get_stack()}/{name}/v{version}"

    def copy_uri(values: typing.Sequence[str]) -> str:
        uri, content = values
        return f"{uri}/{folder}-{_digest(spec.model, content)}"

    return FetchedFilesSpec(
        command=["python", "-m", "pulumi_mlops.runtime.model_files"],
        environment=environment,
        # A version that is deleted and registered again has the same number and another source.
        content=source,
        env={
            **spec.tracking.env,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLOPS_MODEL_NAME": spec.model,
            "MLOPS_MODEL_VERSION": version,
        },
        secrets=spec.tracking.secrets,
        copy=CopySpec(
            uri=pulumi.Output.all(store.uri, source).apply(copy_uri),
            env=store.env,
            secrets=store.secrets,
        ),
        copy_variable="MLOPS_MODEL_COPY",
        timeout=spec.startup_timeout,
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _analysis(settings: AnalysisSettings | None) -> AnalysisSpec | None:
    return None if settings is None else AnalysisSpec(**settings.model_dump())


def _curl(values: typing.Sequence[str]) -> str:
    url, example = values
    if not example:
        return ""
    data = shlex.quote(example)
    return f"curl -s {url}/invocations -H 'content-type: application/json' -d {data}"


def _replicas_to_scrape(
    name: str, model: str, version: str, addresses: pulumi.Output[dict[str, list[str]]]
) -> pulumi.Output[list[dict[str, typing.Any]]]:
    def targets(all: dict[str, list[str]]) -> list[dict[str, typing.Any]]:
        return [
            {
                "job": "serving",
                "instance": f"{name}-v{version}-{index}",
                "url": f"http://{address}/metrics",
                "health_url": f"http://{address}/v2/models/{path_segment(model)}/ready",
            }
            for index, address in enumerate(all["http"])
        ]

    return addresses.apply(targets)
