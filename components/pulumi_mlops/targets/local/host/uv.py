"""uv, which creates the Python environments: its path, and the interpreters that it finds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from functools import cache
from pathlib import Path

_LOCK = threading.Lock()


def uv_bin() -> str:
    """The path of the uv executable of the package `uv`.

    The lock is needed because concurrent first calls of `sysconfig` can return None. Raises
    ImportError, or FileNotFoundError of uv, if the installation is broken.
    """
    with _LOCK:
        return _uv_bin()


@cache
def _uv_bin() -> str:
    from uv import find_uv_bin  # noqa: PLC0415 - a broken installation is a finding of `doctor`

    return str(find_uv_bin())


def search_environment() -> dict[str, str]:
    """The environment variables with which uv finds interpreters.

    The shims of pyenv fail for every version that is not selected, and uv stops at the first
    failure. PATH has the installed versions instead, the newest first.
    """
    path: list[str] = []
    for entry in os.environ.get("PATH", "").split(os.pathsep):
        versions = Path(entry).parent / "versions"
        if Path(entry).name == "shims" and versions.is_dir():
            path += [str(version / "bin") for version in _pyenv_versions(versions)]
        else:
            path.append(entry)
    return {**os.environ, "PATH": os.pathsep.join(path), "UV_PYTHON_DOWNLOADS": "never"}


def _pyenv_versions(folder: Path) -> list[Path]:
    versions = [each for each in folder.iterdir() if re.fullmatch(r"\d+(\.\d+)+", each.name)]
    return sorted(versions, key=lambda each: tuple(map(int, each.name.split("."))), reverse=True)


def python_problem(version: str) -> str | None:
    """Why no environment with this Python version can be created, and the fix. None if it can."""
    if _run("python", "find", version).returncode == 0:
        return None
    listed = _run("python", "list", "--only-installed", "--output-format", "json")
    versions = {entry["version"] for entry in json.loads(listed.stdout or "[]")}
    names = sorted(versions, key=_sort_key)
    return (
        f"Python {version} is not on this machine, which has {', '.join(names) or 'none'}: "
        f"choose one of these (input `python`), or run `uv python install {version}`"
    )


def _sort_key(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [uv_bin(), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=search_environment(),
    )
