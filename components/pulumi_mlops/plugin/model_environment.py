"""The Python environment that MLflow stored with a model (mlflow.org, "MLflow Model Format").

`requirements.txt` and `python_env.yaml` are in the folder of the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import yaml

from .errors import ResourceError

_LOCAL = re.compile(
    r"^(-r|-c|-e|--requirement|--constraint|--editable)\b|^[./~]|file:|\.(whl|zip|tar\.gz)(\s|$)"
)
_MLFLOW = re.compile(r"^mlflow(-skinny)?\b", re.IGNORECASE)
_FIX = "set `requirements` of the serving endpoint (for another resource: readRequirements)"


def read(what: str, file: Callable[[str], str | None]) -> tuple[list[str], str]:
    """The requirements of a model, and its Python version such as `3.11`, or empty.

    `what` names the model version. `file` reads a file of the model, None if there is none. Raises
    ResourceError if the requirements are not enough to serve the model.
    """
    text = file("requirements.txt")
    if text is None:
        raise ResourceError(f"{what} has no readable requirements.txt: {_FIX}")
    lines = [line.split(" #", 1)[0].strip() for line in text.splitlines()]
    requirements = [line for line in lines if line and not line.startswith("#")]
    for line in requirements:
        if _LOCAL.search(line):
            raise ResourceError(
                f"the requirements.txt of {what} refers to a file, {line!r}, which only the "
                f"machine that logged the model has: {_FIX}"
            )
    if not any(_MLFLOW.match(line) for line in requirements):
        raise ResourceError(
            f"the requirements.txt of {what} does not list mlflow, which loads the model: {_FIX}"
        )
    return requirements, _python_of(file("python_env.yaml"))


def _python_of(text: str | None) -> str:
    """`3.10` for `python: 3.10.13`. Models rarely depend on the patch version."""
    try:
        # BaseLoader: every scalar is text, so that 3.10 is not the number 3.1.
        content = yaml.load(text or "", Loader=yaml.BaseLoader)  # noqa: S506 - creates text only
    except yaml.YAMLError:
        return ""
    version = content.get("python") if isinstance(content, dict) else None
    minor = re.match(r"3\.\d+", version) if isinstance(version, str) else None
    return minor[0] if minor else ""
