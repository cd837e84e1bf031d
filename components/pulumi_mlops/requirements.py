"""Requirements of Python environments."""

from __future__ import annotations

import re
from collections.abc import Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SETUPTOOLS_WITH_PKG_RESOURCES = "setuptools<81"
_MLFLOW_WITHOUT_PKG_RESOURCES = Version("2.16")
"""Earlier versions import `pkg_resources` without a requirement for it."""


def with_model_server(model: Sequence[str], server: Sequence[str]) -> list[str]:
    """The requirements of a model and those of the model server.

    A requirement of the model replaces the server's for the same project.
    """
    listed = {_project(line) for line in model}
    added = [line for line in server if _project(line) not in listed]
    if "setuptools" not in listed and any(_is_mlflow_before_2_16(line) for line in model):
        added.append(_SETUPTOOLS_WITH_PKG_RESOURCES)
    return [*model, *added]


def _project(line: str) -> str:
    """The normalized project name. An option such as `--index-url` is unchanged."""
    name = _NAME.match(line)
    return canonicalize_name(name[0]) if name else line


def _is_mlflow_before_2_16(line: str) -> bool:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return False
    return canonicalize_name(requirement.name) in {"mlflow", "mlflow-skinny"} and any(
        each.operator in {"==", "<", "<="}
        and Version(each.version.removesuffix(".*")) < _MLFLOW_WITHOUT_PKG_RESOURCES
        for each in requirement.specifier
    )
