"""Commands and environment variables of programs."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ....plugin.values import known_text
from ....stackdir import StackDir
from .supervisor import base_environment

_VARIABLE = re.compile(r"\$\(([A-Z_][A-Z0-9_]*)\)")


def environment_of(
    root: StackDir, venv: Any, code: Any, env: Mapping[str, Any], variables: Mapping[str, str]
) -> dict[str, str]:
    """All environment variables of a program: base environment, `variables`, then `env`.

    `$(NAME)` in a value of `env` is replaced by the value in `variables`.
    """
    variables = {**variables, "STACK_DIR": str(root.path)}
    result = {**base_environment(), **variables, "PYTHONUNBUFFERED": "1"}
    result["PATH"] = f"{_binaries(venv)}:{result.get('PATH', '')}"
    result["VIRTUAL_ENV"] = str(_binaries(venv).parent)
    if code:
        result["PYTHONPATH"] = known_text(code)
    return result | {key: expanded(known_text(value), variables) for key, value in env.items()}


def command_of(venv: Any, command: Sequence[Any], env: Mapping[str, str]) -> list[str]:
    """The command with `$(NAME)` expanded. Prefers programs of the Python environment."""
    words = [expanded(known_text(word), env) for word in command]
    program = _binaries(venv) / words[0]
    return [str(program) if program.exists() else words[0], *words[1:]]


def program_problems(
    venv: Any, command: Sequence[Any], env: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Problems of a program as (input, problem and fix), as far as the values are known.

    A program without a folder must be in the Python environment or on PATH. An environment that
    does not exist yet may bring it.
    """
    problems = [
        (f"env.{name}", "must not contain a NUL character")
        for name, value in env.items()
        if isinstance(value, str) and "\0" in value
    ]
    program = command[0]
    known = isinstance(program, str) and (venv is None or isinstance(venv, str))
    if not known or not _binaries(venv).is_dir() or "$(" in program or program.startswith("."):
        return problems
    path = f"{_binaries(venv)}:{base_environment()['PATH']}"
    if shutil.which(program, path=path) is None and not ("/" in program and program[0] != "/"):
        text = f"there is no program {program!r} in the Python environment or on PATH: correct "
        text += "the name, or add the package that brings it to the requirements"
        problems.append(("command[0]", text))
    return problems


def working_directory(code: Any) -> Path | None:
    """The working directory of a program with code; None without code."""
    return Path(known_text(code)) if code else None


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """`text` with `$(NAME)` replaced as in Kubernetes. Unknown names are not replaced."""
    return _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), text)


def _binaries(venv: Any) -> Path:
    return (Path(known_text(venv)) if venv else Path(sys.prefix)) / "bin"
