"""A stack's configuration: what `stacks/Pulumi.<env>.yaml` may say, checked as a whole."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Callable, Collection, Mapping

import pulumi
from pydantic import AfterValidator, Field, ValidationError, WithJsonSchema, model_validator
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from .artifacts import ArtifactStoreSettings
from .monitoring import MonitoringStackSettings
from .serving import ServingEndpointSettings
from .sources import find_project
from .spec import Location, Spec, located, no_such, problems
from .targets import registry
from .targets.port import stack_settings
from .tracking import TrackingServerSettings
from .training import PipelineSettings, TrainingRunnerSettings, requirements_of, source_folder

T = typing.TypeVar("T")


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a name has 1 to 40 small letters, digits and hyphens, and begins with a letter"
        )
    return name


_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
Name = typing.Annotated[
    str,
    AfterValidator(_named),
    WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"}),
]


class EndpointConfig(ServingEndpointSettings):
    """An endpoint, and the pipeline that registers its model's versions."""

    pipeline: str | None = Field(
        None, description="A pipeline of this platform that registers the versions."
    )


class MonitoringConfig(MonitoringStackSettings):
    """The monitor, and whether there is one."""

    enabled: bool = Field(True, description="Whether there is a monitor.")


class PlatformConfig(Spec):
    """Everything that a platform is made of; each part has defaults."""

    artifacts: ArtifactStoreSettings = Field(
        ArtifactStoreSettings(), description="The artifact store."
    )
    tracking: TrackingServerSettings = Field(
        TrackingServerSettings(), description="The tracking server and model registry."
    )
    training: TrainingRunnerSettings = Field(
        TrainingRunnerSettings(), description="Where pipelines run."
    )
    pipelines: dict[Name, PipelineSettings] = Field({}, description="Pipelines by name.")
    endpoints: dict[Name, EndpointConfig] = Field({}, description="Endpoints by name.")
    monitoring: MonitoringConfig = Field(MonitoringConfig(), description="The monitor.")

    @model_validator(mode="after")
    def _fits_together(self) -> typing.Self:
        wrong: list[tuple[Location, str]] = [
            (
                ("endpoints", name, "pipeline"),
                no_such("pipeline", endpoint.pipeline, self.pipelines),
            )
            for name, endpoint in self.endpoints.items()
            if endpoint.pipeline is not None and endpoint.pipeline not in self.pipelines
        ]
        taken: dict[int, str] = {}
        for where, port in self._ports().items():
            if port is None:
                continue
            if port in taken:
                wrong.append((where, f"{port} is taken by {taken[port]}: choose another"))
            taken.setdefault(port, ".".join(where))
        if wrong:
            raise located(wrong)
        return self

    def _ports(self) -> dict[tuple[str, ...], int | None]:
        return {
            ("artifacts", "port"): self.artifacts.port,
            ("tracking", "port"): self.tracking.port,
            ("monitoring", "port"): self.monitoring.port,
            **{("endpoints", name, "port"): part.port for name, part in self.endpoints.items()},
        }


def parse(values: Mapping[str, typing.Any], name: str = "platform") -> PlatformConfig:
    """The configuration in `values`; a part that is None has its defaults.

    Raises pulumi.RunError, one line a problem: the key, from `name` on, and what it must be.
    """
    try:
        return PlatformConfig.model_validate(
            {key: value for key, value in values.items() if value is not None}
        )
    except ValidationError as error:
        raise pulumi.RunError("\n".join(problems(name, error))) from None


def check_files(config: PlatformConfig, name: str = "platform") -> None:
    """Raises pulumi.RunError, one line a problem, for folders and files that are not there."""
    wrong = []

    def checked(where: str, check: Callable[..., T], *given: typing.Any) -> T | None:
        try:
            return check(f"{name}.{where}", *given)
        except pulumi.RunError as error:
            wrong.append(str(error))
            return None

    for key, pipeline in config.pipelines.items():
        where = f"pipelines.{key}"
        if folder := checked(f"{where}.source", source_folder, pipeline.source):
            checked(f"{where}.requirements", requirements_of, pipeline.requirements, folder)
    for key, endpoint in config.endpoints.items():
        where = f"endpoints.{key}.requirements"
        checked(where, requirements_of, endpoint.requirements, find_project())
    if wrong:
        raise pulumi.RunError("\n".join(wrong))


def load(project: str | None = None) -> PlatformConfig:
    """The configuration of the stack that is being brought up.

    Its keys are `<project>:<part>`, as in `platform:tracking`. Secrets stay secrets: the engine
    says of a part only that it has some, so all of `training.env`, both keys of the artifact store
    and the tracking server's database are taken for secrets then. Raises pulumi.RunError as `parse`
    does, and for a part that has a secret but no place for one.
    """
    project = project or pulumi.get_project()
    values: dict[str, typing.Any] = {}
    wrong = []
    for key, text in pulumi.runtime.config.CONFIG.get().items():
        namespace, _, part = key.partition(":")
        if namespace == "mlops" and part not in _SETTINGS:
            wrong += _target_problems(part)
        if namespace != project:
            continue
        values[part] = _value(text)
        if pulumi.runtime.is_config_secret(key):
            if part in _SECRETS:
                values[part] = _SECRETS[part](values[part])
            elif part in PlatformConfig.model_fields:
                places = (
                    "artifacts.secret_access_key, artifacts.access_key_id, tracking.database_url "
                    "and training.env"
                )
                wrong.append(f"{project}.{part}: has a secret: only {places} may have one")
                del values[part]
    try:
        config = parse(values, project)
    except pulumi.RunError as error:
        wrong.append(str(error))
    if wrong:
        raise pulumi.RunError("\n".join(wrong))
    return config


def _target_problems(name: str) -> list[str]:
    """What is wrong with `mlops:<name>`, the settings of a target."""
    try:
        model = registry.load(name).settings()
    except registry.UnknownTargetError:
        model = None
    if model is None:
        known = [*_SETTINGS, *(each for each in registry.names() if registry.load(each).settings())]
        return [f"mlops.{name}: {no_such('setting', name, known)}"]
    try:
        stack_settings(name, model)
    except pulumi.RunError as error:
        return [str(error)]
    return []


def _value(text: str) -> typing.Any:
    try:
        # A key without a value is an empty text.
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return text


def _secret_keys(part: typing.Any) -> typing.Any:
    return _hidden(part, {"access_key_id", "secret_access_key"})


def _secret_database(part: typing.Any) -> typing.Any:
    return _hidden(part, {"database_url"})


def _secret_env(part: typing.Any) -> typing.Any:
    if isinstance(part, dict) and isinstance(env := part.get("env"), dict):
        return {**part, "env": _hidden(env, env)}
    return part


def _hidden(values: typing.Any, keys: Collection[str]) -> typing.Any:
    if not isinstance(values, dict):
        return values
    return {
        key: pulumi.Output.secret(value) if key in keys and isinstance(value, str) else value
        for key, value in values.items()
    }


_SECRETS = {"artifacts": _secret_keys, "tracking": _secret_database, "training": _secret_env}
_SETTINGS = {
    "target": {
        "anyOf": [{"enum": registry.names("pulumi-mlops")}, {"type": "string"}],
        "description": "Where the platform runs.",
        "default": registry.DEFAULT,
    },
    "dataDir": {
        "type": "string",
        "description": "Where local resources keep their files; `.mlops` beside Pulumi.yaml "
        "unless told.",
    },
}


class _Schema(GenerateJsonSchema):
    """Without titles, which repeat the keys, and without the defaults of whole parts."""

    def field_title_should_be_set(self, schema: typing.Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if isinstance(schema.get("default"), Spec | dict | None):
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        found = super().dict_schema(schema)
        return found | ({"additionalProperties": False} if "patternProperties" in found else {})


def json_schema(project: str = "platform") -> dict[str, typing.Any]:
    """A JSON schema of `Pulumi.<env>.yaml` for editors.

    `python -m pulumi_mlops.config > stacks/schema.json` writes it.
    """
    schema = PlatformConfig.model_json_schema(schema_generator=_Schema)
    targets = {}
    for name in registry.names("pulumi-mlops"):
        if (model := registry.load(name).settings()) is not None:
            targets[f"mlops:{name}"] = {"$ref": f"#/$defs/{model.__name__}"}
            part = model.model_json_schema(schema_generator=_Schema)
            # Its references start at the root of the whole schema.
            schema["$defs"] |= {**part.pop("$defs", {}), model.__name__: part}
    definitions = schema.pop("$defs")
    properties = {f"{project}:{key}": value for key, value in schema["properties"].items()}
    properties |= {f"mlops:{key}": value for key, value in _SETTINGS.items()} | targets
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Stack configuration of a pulumi-mlops platform",
        "type": "object",
        "properties": {
            "config": {
                "type": "object",
                "properties": properties,
                # The engine's own settings, as `pulumi:tags`.
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


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
