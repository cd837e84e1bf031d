"""`mlops:local:Run`: a program that runs to completion, and again after each change."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ....files import tail
from ....plugin.errors import ResourceError
from ....plugin.handler import Context, Handler, Inputs, OutputField
from ....plugin.values import OrUnknown
from ..host import jobs
from ..host.programs import command_of, environment_of, program_problems, working_directory


class RunInputs(Inputs):
    """Inputs of `mlops:local:Run`.

    A change of `command` or `version` starts another run. A change of another input, such as an
    address or a credential, applies to the next run.
    """

    command: list[OrUnknown[str]] = Field(
        min_length=1, description="Program and arguments. A change starts another run."
    )
    env: dict[str, OrUnknown[str]] = Field({}, description="Environment variables.")
    environment: OrUnknown[str] | None = Field(
        None,
        description="Folder of a virtual environment. Default: the environment of the plugin.",
    )
    code: OrUnknown[str] | None = Field(
        None,
        description="Working directory, from which Python imports. Default: a folder of the run.",
    )
    version: OrUnknown[str] = Field(
        "", description="Digest of the code and the requirements. A change starts another run."
    )
    run_on_change: bool = Field(
        True, description="Run the program during `pulumi up` when it is new or changed."
    )
    timeout_seconds: float = Field(3600, gt=0, description="Time limit of a run, in seconds.")


class RunHandler(Handler[RunInputs]):
    """Manages a job of `host/jobs.py`. Creating or changing the resource runs the job."""

    token = "mlops:local:Run"
    description = "A program that runs to completion, again after each change."
    inputs = RunInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "outputs": OutputField(dict[str, Any], "JSON that the last run wrote to MLOPS_OUTPUTS."),
        "log": OutputField(str, "Path of the log."),
    }
    path_output = ("log", 2)

    _RERUN: ClassVar[frozenset[str]] = frozenset({"command", "version"})

    def check(self, ctx: Context, new: RunInputs) -> list[tuple[str, str]]:
        return program_problems(new.environment, new.command, new.env)

    def preview(self, ctx: Context, new: RunInputs, old: dict[str, Any] | None) -> dict[str, Any]:
        log = str(jobs.log_of(ctx.root, ctx.name))
        if old is not None and not self._runs_again(old, new):
            return {"log": log, "outputs": old.get("outputs")}
        return {"log": log} if new.run_on_change else {"log": log, "outputs": {}}

    def create(self, ctx: Context, new: RunInputs) -> tuple[str, dict[str, Any]]:
        self._define(ctx, new)
        if not new.run_on_change:
            return ctx.name, {"outputs": {}, "log": str(jobs.log_of(ctx.root, ctx.name))}
        try:
            return ctx.name, self._run(ctx)
        except BaseException:
            # The log is kept, since it contains the reason.
            jobs.remove(ctx.root, ctx.name, keep_logs=True)
            ctx.root.prune(keep_logs=True)
            raise

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        return {} if jobs.definition(ctx.root, resource_id) else None

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: RunInputs
    ) -> dict[str, Any]:
        previous = jobs.definition(ctx.root, resource_id)
        self._define(ctx, new)
        if not self._runs_again(old, new):
            return {"outputs": old.get("outputs") or {}, "log": old["log"]}
        try:
            return self._run(ctx)
        except BaseException:
            if previous is not None:
                jobs.define(ctx.root, previous)
            raise

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        jobs.remove(ctx.root, resource_id)
        ctx.root.prune()

    def _runs_again(self, old: dict[str, Any], new: RunInputs) -> bool:
        inputs = new.model_dump(by_alias=True)
        return new.run_on_change and any(old.get(key) != inputs[key] for key in self._RERUN)

    def _define(self, ctx: Context, new: RunInputs) -> None:
        env = environment_of(ctx.root, new.environment, new.code, new.env, {})
        jobs.define(
            ctx.root,
            jobs.Job(
                name=ctx.name,
                command=command_of(new.environment, new.command, env),
                env=env,
                cwd=working_directory(new.code) or ctx.root.folder("jobs", ctx.name),
                timeout_seconds=new.timeout_seconds,
            ),
        )

    def _run(self, ctx: Context) -> dict[str, Any]:
        result = jobs.run(
            ctx.root, ctx.name, lambda line: ctx.log(line, status=True), ctx.cancelled
        )
        log = jobs.log_of(ctx.root, ctx.name)
        if result.exit_code != 0:
            raise ResourceError(
                f"{ctx.name} ended with exit code {result.exit_code}. Its last log lines:\n"
                f"{tail(log)}\nThe whole log: {log}"
            )
        ctx.log(f"done after {result.seconds:.0f} s", status=True)
        return {"outputs": result.outputs, "log": str(log)}
