"""TrainingRunner and Pipeline: where models are trained, and what trains them."""

from __future__ import annotations

import typing
from pathlib import Path
from zoneinfo import available_timezones

import pulumi
from pydantic import Field, field_validator, model_validator

from . import crontab
from .artifacts import ArtifactStore
from .sources import find_project
from .spec import Number, OnTarget, ResourceSettings, SecretText, Spec, Whole, must_be
from .targets.port import EnvironmentSpec, JobSpec, ScheduleSpec, resolve, resources_of, text_of
from .tracking import TrackingServer

if typing.TYPE_CHECKING:
    from .args import PipelineArgs, TrainingRunnerArgs

Parameter = str | int | float | bool
_Parameter = typing.Annotated[Parameter, must_be("text, a number, true or false")]
Requirements = typing.Annotated[
    str | list[str], must_be("the path of a requirements file, or a list of requirements")
]
"""A requirements file, or the requirements themselves."""
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
    """The environment variables of every run that are no secrets."""
    secrets: dict[str, pulumi.Input[str]]
    """Those that are."""

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
        for variable, given_value in self.spec.env.items():
            value = text_of(self.target, given_value)
            # What is given as an Output may be a secret.
            given, other = self.env, self.secrets
            if isinstance(value, pulumi.Output):
                given, other = other, given
            given[variable] = value
            other.pop(variable, None)
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
    def _a_map(cls, given: typing.Any) -> typing.Any:
        if isinstance(given, str):
            raise ValueError('must be a map, as in `schedule: {cron: "0 3 * * *"}`')
        return given

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str) -> str:
        crontab.for_apscheduler(cron)
        return cron

    @field_validator("timezone")
    @classmethod
    def _exists(cls, zone: str) -> str:
        if zone != "UTC" and zone not in available_timezones():
            raise ValueError("is no IANA time zone: take one as `Europe/Berlin`, or `UTC`")
        return zone


class PipelineSettings(Spec):
    """A pipeline: a folder of code and the command that runs it."""

    source: str = Field(
        description="Folder of the code. A relative path starts at the folder of Pulumi.yaml."
    )
    command: list[str] = Field(
        ["python", "run.py"], min_length=1, description="Command to run in that folder."
    )
    parameters: dict[str, _Parameter] = Field(
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
    """A folder of code that runs when it is new or changed, by a schedule, or on demand.

    Raises pulumi.RunError for inputs that cannot be, as for a source that is no folder.
    """

    outputs: pulumi.Output[dict[str, typing.Any]]
    """What its last run under `pulumi up` wrote to the file that MLOPS_OUTPUTS names."""

    def __init__(
        self, name: str, args: PipelineArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        spec = PipelineSpec.of(name, args)
        source = source_folder(f"{name}.source", spec.source)
        requirements = requirements_of(f"{name}.requirements", spec.requirements, source)
        super().__init__("mlops:index:Pipeline", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        runner, target = spec.runner, spec.runner.target
        environment = target.environment(
            f"{name}-environment",
            EnvironmentSpec(
                requirements=requirements,
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
    """The folder `path`, which starts at the folder of Pulumi.yaml, whatever the working folder is.

    Raises pulumi.RunError naming `where` for a path that is no folder.
    """
    folder = find_project() / path
    try:
        found = folder.is_dir()
    except OSError:
        found = False  # as a name that is too long
    if not found:
        raise pulumi.RunError(
            f"{where}: {folder} is no folder: a path from the folder of Pulumi.yaml is needed"
        )
    return folder.resolve()


def requirements_of(where: str, given: str | list[str], folder: Path) -> list[str]:
    """The requirements, without comments and empty lines, so that a diff shows what changed.

    Raises pulumi.RunError naming `where` for a file that cannot be read.
    """
    if not isinstance(given, str):
        return given
    file = folder / given
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no text in UTF-8"
        raise pulumi.RunError(
            f"{where}: {file}: {why}: the path of a requirements file, or a list of "
            "requirements is needed"
        ) from None
    bare = (line.split(" #", 1)[0].strip() for line in lines)
    return [line for line in bare if line and not line.startswith("#")]


def _arguments(parameters: typing.Mapping[str, Parameter]) -> list[str]:
    arguments: list[str] = []
    for name, value in parameters.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        arguments += [f"--{name}", text]
    return arguments
