"""The Python environment of model servers."""

from __future__ import annotations

import typing

import pulumi

from .requirements import RequirementSet, read_requirements, with_model_server
from .targets.port import EnvironmentSpec, ModelVersionHandle, runtime_folder

_OLDEST_PYTHON = (3, 10)


def server_environment(
    model: pulumi.Input[typing.Sequence[str]],
    python: pulumi.Input[str] | None,
    files: RequirementSet,
) -> EnvironmentSpec:
    """The Python environment of model servers for models with these requirements.

    `files` has the constraints and the local projects of the requirements.
    """
    runtime = runtime_folder()
    server = read_requirements("model server", "requirements-model-server.txt", runtime).lines
    requirements: pulumi.Input[typing.Sequence[str]]
    if isinstance(model, pulumi.Output):
        requirements = model.apply(lambda lines: with_model_server(lines, server))
    else:
        requirements = with_model_server(typing.cast("list[str]", model), server)
    return EnvironmentSpec(
        requirements=requirements,
        constraints=files.constraints,
        projects=files.projects,
        python=python,
        code={"pulumi_mlops/runtime": runtime},
    )


def environment_of_version(
    name: str, version: str, python: str | None, model_version: ModelVersionHandle
) -> EnvironmentSpec:
    """The Python environment that MLflow stored with a model version."""
    if model_version.requirements is None or model_version.python is None:
        raise pulumi.RunError(
            f"{name}.requirements: is required, since this target does not read the model "
            "registry: set the path of a requirements file, or a list of requirements"
        )

    def check(stored: str) -> str:
        if stored and tuple(map(int, stored.split("."))) < _OLDEST_PYTHON:
            raise pulumi.RunError(
                f"{name}.python: version {version} was logged with Python {stored}, and the model "
                "server needs at least 3.10: set `python` and, if its requirements do not "
                "install there, `requirements`"
            )
        return stored

    return server_environment(
        model_version.requirements,
        python or model_version.python.apply(check),
        RequirementSet(),
    )
