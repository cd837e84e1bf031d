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
from .spec import Number, ResourceSettings, SecretInput, SecretText, Spec, Whole, must_be
from .targets.port import EnvironmentSpec, JobSpec, ScheduleSpec, resolve, resources_of, text_of
from .tracking import TrackingServer

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
    """What a stack's configuration may say of training."""

    python: str | None = Field(None, description="Python version of pipelines; ours unless told.")
    timeout: Number = Field(3600, gt=0, le=30 * 86400, description="Seconds that a run may take.")
    env: dict[Variable, SecretText] = Field({}, description="Environment variables of every run.")
    resources: ResourceSettings = Field(ResourceSettings(), description="What a run takes.")


class TrainingRunnerArgs(typing.TypedDict):
    """What a TrainingRunner takes."""

    tracking: TrackingServer
    """Where runs are recorded and models registered."""
    artifact_store: typing.NotRequired[ArtifactStore]
    """Its credentials are given to runs that work with S3 themselves; none unless told."""
    python: typing.NotRequired[str]
    """Python version of pipelines; the one of this program unless told."""
    timeout: typing.NotRequired[float]
    """Seconds that a run may take; 3600 unless told."""
    env: typing.NotRequired[typing.Mapping[str, SecretInput]]
    """Environment variables of every run."""
    resources: typing.NotRequired[typing.Mapping[str, typing.Any]]
    """`cpu` in cores, `memory` as in `2Gi`, `gpu`; the target's defaults unless told."""
    target: typing.NotRequired[str]
    """Where runs take place; the stack's `mlops:target` unless told."""


class _TrainingRunnerSpec(TrainingRunnerSettings):
    tracking: TrackingServer
    artifact_store: ArtifactStore | None = None
    target: str | None = None


class TrainingRunner(pulumi.ComponentResource):
    """Where training takes place and what every run is given: addresses, credentials, limits."""

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
        self.spec = _TrainingRunnerSpec.of(name, args)
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
    """When a pipeline runs by itself."""

    cron: str = Field(description="Five crontab fields, as in `0 3 * * 1-5`.")
    timezone: str = Field("UTC", description="A name of the IANA time zone database.")

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
    """What a stack's configuration may say of a pipeline."""

    source: str = Field(description="Folder of its code, from the project's folder.")
    command: list[str] = Field(
        ["python", "run.py"], min_length=1, description="What is run in that folder."
    )
    parameters: dict[str, _Parameter] = Field(
        {}, description="Handed to the command as `--name value`."
    )
    requirements: Requirements = Field(
        "requirements.txt", description="A file of the folder, or the requirements themselves."
    )
    schedule: Schedule | None = Field(None, description="When it runs by itself.")
    run_on_change: bool = Field(
        True, description="Whether `pulumi up` runs it when it is new or changed."
    )
    workers: Whole = Field(
        1, ge=1, le=1000, description="Runs that work together, as in distributed training."
    )


class PipelineArgs(typing.TypedDict):
    """What a Pipeline takes."""

    runner: TrainingRunner
    """Where it runs."""
    source: str
    """Folder of its code; a relative one starts at the project's folder."""
    command: typing.NotRequired[typing.Sequence[str]]
    """What is run in that folder; `python run.py` unless told."""
    parameters: typing.NotRequired[typing.Mapping[str, Parameter]]
    """Handed to the command as `--name value`."""
    requirements: typing.NotRequired[str | typing.Sequence[str]]
    """A file of the folder, or the requirements themselves; `requirements.txt` unless told."""
    schedule: typing.NotRequired[typing.Mapping[str, str]]
    """`cron` and `timezone` (`UTC` unless told)."""
    run_on_change: typing.NotRequired[bool]
    """Whether an update runs it when it is new or changed; it does unless told."""
    workers: typing.NotRequired[int]
    """Runs of the command that work together, as in distributed training, each told of the others
    by the variables of `torchrun` (PET_*) and of PyTorch's `env://` (MASTER_ADDR, RANK, …); 1
    unless told."""


class _PipelineSpec(PipelineSettings):
    runner: TrainingRunner


class Pipeline(pulumi.ComponentResource):
    """A folder of code that is run: when it is deployed or changed, by a schedule, or by hand.

    Raises pulumi.RunError for inputs that cannot be, as for a source that is no folder.
    """

    outputs: pulumi.Output[dict[str, typing.Any]]
    """What its last run under `pulumi up` wrote to the file that MLOPS_OUTPUTS names."""

    def __init__(
        self, name: str, args: PipelineArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        spec = _PipelineSpec.of(name, args)
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
