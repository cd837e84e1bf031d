"""TrainingRunner and Pipeline: settings of training runs, and the code that trains models."""

from __future__ import annotations

import typing
from pathlib import Path
from zoneinfo import available_timezones

import pulumi
from pydantic import Field, field_validator, model_validator

from . import crontab
from .artifacts import ArtifactStore
from .requirements import read_requirements
from .sources import find_project, left_out
from .spec import Number, OnTarget, ResourceSettings, SecretText, Spec, Whole, must_be
from .targets.port import EnvironmentSpec, JobSpec, ScheduleSpec, resolve, resources_of, text_of
from .tracking import TrackingServer

if typing.TYPE_CHECKING:
    from .args import PipelineArgs, TrainingRunnerArgs

_MAX_SHOWN = 10
Parameter = str | int | float | bool
_Parameter = typing.Annotated[Parameter, must_be("text, a number, true or false")]
ParameterName = typing.Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"),
    must_be("the name of a parameter: letters, digits, `-`, `_` and `.`"),
]
_RequirementLine = typing.Annotated[str, Field(pattern=r"^\s*([A-Za-z0-9#./-]|$)")]
Requirements = typing.Annotated[
    str | list[_RequirementLine],
    must_be("the path of a requirements file, or a list of requirements"),
]
"""The path of a requirements file, or a list of requirements."""
Variable = typing.Annotated[
    str,
    Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
    must_be("the name of an environment variable: letters, digits and underscores"),
]


class TrainingRunnerSettings(Spec):
    """The settings of every training run."""

    python: str | None = Field(
        None,
        description="Python version of pipelines, such as `3.12`. Default: the version that runs "
        "the Pulumi program.",
    )
    timeout: Number = Field(
        3600, gt=0, le=30 * 86400, description="Time limit of a run, in seconds."
    )
    env: dict[Variable, SecretText] = Field({}, description="Environment variables of every run.")
    resources: ResourceSettings = Field(
        ResourceSettings(), description="CPU, memory and GPUs of each worker of a run."
    )


class TrainingRunnerSpec(TrainingRunnerSettings, OnTarget):
    """Inputs of a TrainingRunner."""

    tracking: TrackingServer = Field(
        description="Server that records the runs and registers the models."
    )
    artifact_store: ArtifactStore | None = Field(
        None,
        description="Store for pipelines that use S3 themselves: every run gets its credentials. "
        "Default: no credentials.",
    )


class TrainingRunner(pulumi.ComponentResource):
    """The addresses, credentials and limits of training runs."""

    env: dict[str, pulumi.Input[str]]
    """The environment variables of every run that are not secret."""
    secrets: dict[str, pulumi.Input[str]]
    """The environment variables of every run that are secret."""

    def __init__(
        self,
        name: str,
        args: TrainingRunnerArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        self.spec = TrainingRunnerSpec.of(name, args)
        super().__init__("mlops:index:TrainingRunner", name, None, opts)
        self.target = resolve(self.spec.target)
        tracking, store = self.spec.tracking, self.spec.artifact_store
        self.env = {**tracking.env, "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.secrets = dict(tracking.secrets)
        self.calls = [tracking.server]
        if store is not None:
            self.calls += store.services
            self.env |= store.env
            self.secrets |= store.secrets
        for variable, text in self.spec.env.items():
            value = text_of(self.target, text)
            self.env.pop(variable, None)
            self.secrets.pop(variable, None)
            # An Output may be a secret.
            variables = self.secrets if isinstance(value, pulumi.Output) else self.env
            variables[variable] = value
        self.register_outputs({})


class Schedule(Spec):
    """When a pipeline starts automatically."""

    cron: str = Field(
        description="Five crontab fields (minute, hour, day of the month, month, day of the week), "
        "such as `0 3 * * 1-5`."
    )
    timezone: str = Field(
        "UTC", description="Time zone of the IANA database, such as `Europe/Berlin`."
    )

    @model_validator(mode="before")
    @classmethod
    def _require_map(cls, value: typing.Any) -> typing.Any:
        if isinstance(value, str):
            raise ValueError('must be a map, such as `schedule: {cron: "0 3 * * *"}`')
        return value

    @field_validator("cron")
    @classmethod
    def _valid_cron(cls, cron: str) -> str:
        crontab.for_apscheduler(cron)
        return cron

    @field_validator("timezone")
    @classmethod
    def _valid_timezone(cls, zone: str) -> str:
        if zone != "UTC" and zone not in available_timezones():
            raise ValueError("must be an IANA time zone, such as `Europe/Berlin` or `UTC`")
        return zone


class PipelineSettings(Spec):
    """A pipeline: a folder of code and the command that runs it."""

    source: str = Field(
        description="Folder of the code. A relative path starts at the folder of Pulumi.yaml."
    )
    command: list[str] = Field(
        ["python", "run.py"], min_length=1, description="Command to run in that folder."
    )
    parameters: dict[ParameterName, _Parameter] = Field(
        {}, description="Arguments of the command, passed as `--name value`."
    )
    requirements: Requirements = Field(
        "requirements.txt",
        description="Requirements file in the source folder, or a list of requirements.",
    )
    schedule: Schedule | None = Field(
        None, description="When the pipeline starts automatically. Default: never."
    )
    run_on_change: bool = Field(
        True, description="Run the pipeline during `pulumi up` when it is new or changed."
    )
    workers: Whole = Field(
        1,
        ge=1,
        le=1000,
        description="Number of processes that run the command together, as in distributed "
        "training. Each one gets the environment variables of `torchrun` (PET_*) and of PyTorch's "
        "`env://` (MASTER_ADDR, RANK, …).",
    )


class PipelineSpec(PipelineSettings):
    """Inputs of a Pipeline."""

    runner: TrainingRunner = Field(description="Runner of the pipeline.")


class Pipeline(pulumi.ComponentResource):
    """A folder of code that runs when it is new or changed, on a schedule, or on demand.

    Raises pulumi.RunError for invalid inputs, such as a source that is not a folder.
    """

    outputs: pulumi.Output[dict[str, typing.Any]]
    """The outputs of its last run during `pulumi up`: the JSON in the file MLOPS_OUTPUTS."""

    def __init__(
        self, name: str, args: PipelineArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        spec = PipelineSpec.of(name, args)
        source = source_folder(f"{name}.source", spec.source)
        requirements = read_requirements(f"{name}.requirements", spec.requirements, source)
        super().__init__("mlops:index:Pipeline", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        if missed := left_out(source):
            shown = ", ".join(missed[:_MAX_SHOWN]) + (", …" if len(missed) > _MAX_SHOWN else "")
            pulumi.log.info(f"{name}.source: not deployed from {source}: {shown}", self)
        runner, target = spec.runner, spec.runner.target
        environment = target.environment(
            f"{name}-environment",
            EnvironmentSpec(
                requirements=requirements.lines,
                constraints=requirements.constraints,
                projects=requirements.projects,
                python=runner.spec.python,
                code={".": source},
            ),
            child,
        )
        self.job = target.job(
            f"{name}-job",
            JobSpec(
                command=[*spec.command, *_arguments(spec.parameters)],
                environment=environment,
                env=runner.env,
                secrets=runner.secrets,
                calls=runner.calls,
                workers=spec.workers,
                resources=resources_of(runner.spec.resources),
                run_on_change=spec.run_on_change,
                timeout=runner.spec.timeout,
            ),
            child,
        )
        self.scrape: dict[str, typing.Any] = {}
        if spec.schedule is not None:
            scheduler = target.schedule(
                f"{name}-schedule",
                ScheduleSpec(
                    job=self.job, cron=spec.schedule.cron, timezone=spec.schedule.timezone
                ),
                child,
            )
            if scheduler is not None:
                self.scrape[f"{name}-schedule"] = {
                    "job": "schedule",
                    "instance": f"{name}-schedule",
                    "url": scheduler.url.apply(lambda url: f"{url}/metrics"),
                    "health_url": scheduler.url.apply(lambda url: f"{url}/health"),
                }
        self.outputs = self.job.outputs
        self.register_outputs({"outputs": self.outputs})


def source_folder(where: str, path: str) -> Path:
    """The absolute path of a source folder. A relative `path` starts at the project folder.

    `where` is the path of the input. Raises pulumi.RunError if `path` is not a folder.
    """
    folder = find_project() / path
    try:
        is_folder = folder.is_dir()
    except OSError:  # such as a name that is too long
        is_folder = False
    if not is_folder:
        raise pulumi.RunError(
            f"{where}: {folder} is not a folder: set the path of a folder, relative to Pulumi.yaml"
        )
    return folder.resolve()


def _arguments(parameters: typing.Mapping[str, Parameter]) -> list[str]:
    arguments: list[str] = []
    for name, value in parameters.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        arguments += [f"--{name}", text]
    return arguments
