"""The stack configuration: the inputs in `stacks/Pulumi.<env>.yaml`, and their validation."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path

import pulumi
from pydantic import AfterValidator, Field, ValidationError, WithJsonSchema, model_validator
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from .artifacts import ArtifactStoreSettings
from .monitoring import MonitoringStackSettings
from .provider_settings import ProviderSettings
from .quality import EndpointQuality, QualityMonitorSettings
from .requirements import read_requirements
from .secret_inputs import secret_places, with_secrets
from .serving_settings import ServingEndpointSettings
from .sources import find_project
from .spec import Location, Spec, located, no_such, problems
from .stackdir import data_folder_problem
from .targets import registry
from .targets.port import stack_settings
from .tracking import TrackingServerSettings
from .training import PipelineSettings, TrainingRunnerSettings, source_folder

T = typing.TypeVar("T")


def _valid_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a name must have 1 to 40 lower-case letters, digits and hyphens, and must begin with "
            "a letter"
        )
    return name


_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
Name = typing.Annotated[
    str,
    AfterValidator(_valid_name),
    WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"}),
]


class EndpointConfig(ServingEndpointSettings):
    """A serving endpoint, and the pipeline that registers its model versions."""

    pipeline: str | None = Field(
        None,
        description="Name of the pipeline in `platform:pipelines` that registers the versions: "
        "the endpoint waits for its run. Default: no wait.",
    )
    quality: EndpointQuality | None = Field(
        None, description="Quality monitoring of the endpoint. Default: none."
    )

    @model_validator(mode="after")
    def _logged(self) -> typing.Self:
        if self.quality is not None and not self.prediction_log:
            message = "requires the prediction log: set prediction_log to true, or remove quality"
            raise located([(("quality",), message)])
        return self


class MonitoringConfig(MonitoringStackSettings):
    """The monitor, and whether it is provisioned."""

    enabled: bool = Field(True, description="Provision the monitor.")


class PlatformConfig(Spec):
    """The parts of a platform. Each part has defaults."""

    artifacts: ArtifactStoreSettings = Field(
        ArtifactStoreSettings(), description="The artifact store."
    )
    tracking: TrackingServerSettings = Field(
        TrackingServerSettings(), description="The tracking server and model registry."
    )
    training: TrainingRunnerSettings = Field(
        TrainingRunnerSettings(), description="The settings of every training run."
    )
    pipelines: dict[Name, PipelineSettings] = Field({}, description="Pipelines by name.")
    endpoints: dict[Name, EndpointConfig] = Field({}, description="Endpoints by name.")
    monitoring: MonitoringConfig = Field(MonitoringConfig(), description="The monitor.")
    quality: QualityMonitorSettings = Field(
        QualityMonitorSettings(),
        description="The quality service. Provisioned if an endpoint declares `quality`.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> typing.Self:
        found_problems: list[tuple[Location, str]] = [
            (
                ("endpoints", name, "pipeline"),
                no_such("pipeline", endpoint.pipeline, self.pipelines),
            )
            for name, endpoint in self.endpoints.items()
            if endpoint.pipeline is not None and endpoint.pipeline not in self.pipelines
        ]
        used_ports: dict[int, str] = {}
        for where, port in self._ports().items():
            if port is None:
                continue
            if port in used_ports:
                message = f"port {port} is already used by {used_ports[port]}: choose another one"
                found_problems.append((where, message))
            used_ports.setdefault(port, ".".join(where))
        if found_problems:
            raise located(found_problems)
        return self

    def _ports(self) -> dict[tuple[str, ...], int | None]:
        return {
            ("artifacts", "port"): self.artifacts.port,
            ("tracking", "port"): self.tracking.port,
            ("monitoring", "port"): self.monitoring.port,
            ("quality", "port"): self.quality.port,
            **{("endpoints", name, "port"): part.port for name, part in self.endpoints.items()},
        }


def parse(values: Mapping[str, typing.Any], name: str = "platform") -> PlatformConfig:
    """Validate the stack configuration `values`. A part that is None has its defaults.

    Raises pulumi.RunError with one line per problem: the path of the input, which begins with
    `name`, and what is allowed.
    """
    try:
        return PlatformConfig.model_validate(
            {key: value for key, value in values.items() if value is not None}
        )
    except ValidationError as error:
        raise pulumi.RunError("\n".join(problems(name, error))) from None


def check_files(config: PlatformConfig, name: str = "platform") -> None:
    """Check that the source folders and requirements files exist.

    Raises pulumi.RunError with one line per problem.
    """
    messages = []

    def collect(where: str, check: Callable[..., T], *args: typing.Any) -> T | None:
        try:
            return check(f"{name}.{where}", *args)
        except pulumi.RunError as error:
            messages.append(str(error))
            return None

    for key, pipeline in config.pipelines.items():
        where = f"pipelines.{key}"
        if folder := collect(f"{where}.source", source_folder, pipeline.source):
            collect(f"{where}.requirements", read_requirements, pipeline.requirements, folder)
    for key, endpoint in config.endpoints.items():
        where = f"endpoints.{key}.requirements"
        if endpoint.requirements is not None:
            collect(where, read_requirements, endpoint.requirements, find_project())
    if messages:
        raise pulumi.RunError("\n".join(messages))


def load(project: str | None = None) -> PlatformConfig:
    """The validated configuration of the current stack.

    Its keys are `<project>:<part>`, such as `platform:tracking`. The engine reports only that a
    part contains a secret. Every SecretText of that part therefore becomes a secret Output. Raises
    pulumi.RunError as `parse` does, and for a part that contains a secret but has no SecretText.
    """
    project = project or pulumi.get_project()
    values: dict[str, typing.Any] = {}
    plain: dict[str, typing.Any] = {}
    secrets = False
    messages = []
    configured = pulumi.runtime.config.CONFIG.get()
    if not configured:
        raise pulumi.RunError(
            f"stack {pulumi.get_stack()} has no configuration: its stack file is missing, or its "
            "key `config` is misspelled. An environment with all defaults needs one input, such "
            f"as `{project}:artifacts: {{bucket: artifacts}}`"
        )
    for key, text in configured.items():
        namespace, _, part = key.partition(":")
        if namespace == "mlops" and part not in _SETTINGS:
            messages += _target_problems(part)
        if namespace != project:
            continue
        values[part] = plain[part] = _value(text)
        if pulumi.runtime.is_config_secret(key):
            secrets = True
            if any(place.split(".")[0] == part for place in _SECRET_PLACES):
                field = PlatformConfig.model_fields[part]
                values[part] = with_secrets(field.annotation, values[part])
            elif part in PlatformConfig.model_fields:
                *places, last = _SECRET_PLACES
                messages.append(
                    f"{project}.{part}: contains a secret, which is allowed only in "
                    f"{', '.join(places)} and {last}"
                )
                del values[part], plain[part]
    folder = configured.get("mlops:dataDir")
    if folder and (problem := data_folder_problem(folder, Path.cwd())) is not None:
        messages.append(f"mlops:dataDir: {problem}")
    try:
        config = parse(plain, project)
        # An Output is not validated, so the values are validated before they become one.
        config = parse(values, project) if secrets else config
    except pulumi.RunError as error:
        messages.append(str(error))
    if messages:
        raise pulumi.RunError("\n".join(messages))
    return config


def _target_problems(name: str) -> list[str]:
    """The problems of `mlops:<name>`, the part of the stack configuration of a target."""
    try:
        model = registry.load(name).settings()
    except registry.UnknownTargetError:
        model = None
    if model is None:
        known = [*_SETTINGS, *(each for each in registry.names() if registry.load(each).settings())]
        return [f"mlops:{name}: {no_such('key', name, known)}"]
    try:
        stack_settings(name, model)
    except pulumi.RunError as error:
        return [str(error)]
    return []


def _value(text: str) -> typing.Any:
    try:
        # The engine passes a key without a value as an empty text.
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return text


_SECRET_PLACES = secret_places(PlatformConfig)
_SETTINGS = [field.alias or name for name, field in ProviderSettings.model_fields.items()]


class _Schema(GenerateJsonSchema):
    """Omits titles, which repeat the keys, and the defaults of whole parts."""

    def field_title_should_be_set(self, schema: typing.Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if isinstance(schema.get("default"), Spec | dict | None):
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        result = super().dict_schema(schema)
        return result | ({"additionalProperties": False} if "patternProperties" in result else {})


def json_schema(platform: type[PlatformConfig] = PlatformConfig) -> dict[str, typing.Any]:
    """The JSON schema of `Pulumi.<env>.yaml`, for editors and language servers."""
    schema = platform.model_json_schema(schema_generator=_Schema)
    provider = ProviderSettings.model_json_schema(schema_generator=_Schema)["properties"]
    names = registry.names("pulumi-mlops")
    target = {"anyOf": [{"enum": names}, {"type": "string"}]}
    provider["target"] = target | {
        key: value for key, value in provider["target"].items() if key != "type"
    }
    definitions = schema.pop("$defs")
    for name in names:
        if (model := registry.load(name).settings()) is not None:
            own = model.model_json_schema(schema_generator=_Schema)
            definitions |= {**own.pop("$defs", {}), model.__name__: own}
            provider[name] = {"$ref": f"#/$defs/{model.__name__}"}
    properties = {f"platform:{key}": value for key, value in schema["properties"].items()}
    properties |= {f"mlops:{key}": value for key, value in provider.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Stack configuration of a pulumi-mlops platform",
        "type": "object",
        "properties": {
            "config": {
                "type": "object",
                "properties": properties,
                # Settings of the engine, such as `pulumi:tags`.
                "patternProperties": {"^pulumi:": {}},
                "additionalProperties": False,
            },
            "environment": {"description": "Pulumi ESC environments."},
            "encryptionsalt": {"type": "string"},
            "secretsprovider": {"type": "string"},
            "encryptedkey": {"type": "string"},
        },
        "additionalProperties": False,
        "$defs": definitions,
    }
