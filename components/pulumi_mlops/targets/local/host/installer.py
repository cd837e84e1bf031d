"""Creation of Python environments with uv.

A folder has all that uv reads: `requirements.txt`, `constraints.txt`, and in `projects` what the
requirements refer to as `./projects/<name>`.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ....files import remove_tree
from ....plugin.errors import ResourceError
from ....plugin.handler import Context
from ....sources import copy, digest
from . import launch
from .uv import search_environment, uv_bin


@dataclass(frozen=True, kw_only=True)
class Content:
    """What determines the packages of an environment. `projects` maps a name to a path."""

    requirements: Sequence[str]
    python: str | None
    constraints: Sequence[str]
    projects: Mapping[str, Path]

    def write(self, folder: Path, digests: Mapping[str, str]) -> None:
        """Write the files that uv reads. Raises ResourceError if local content changed."""
        _write_lines(folder / "requirements.txt", self.requirements)
        _write_lines(folder / "constraints.txt", self.constraints)
        remove_tree(folder / "projects")
        for name, path in self.projects.items():
            copy(path, folder / "projects" / name)
            if digest(folder / "projects" / name) != digests[name]:
                raise ResourceError(f"{path} changed since the preview: update again")


def resolve(ctx: Context, folder: Path, content: Content) -> None:
    """Raise ResourceError if no set of packages meets the requirements in `folder`.

    If the package index cannot be reached, logs a warning instead.
    """
    python = ["--python", content.python or sys.executable]
    commands = [
        ["pip", "compile", "--no-header", "--no-annotate", *python,
         *_constraints(folder, "constraints.txt"), "requirements.txt"],
    ]  # fmt: skip
    # The resolution of a project reads its metadata and does not build it.
    commands += [
        ["build", "--wheel", "--out-dir", "built", *python, f"projects/{name}"]
        for name in content.projects
        if (folder / "projects" / name).is_dir() and f"--find-links ./projects/{name}" not in
        content.requirements
    ]  # fmt: skip
    for command in commands:
        ended = subprocess.run(
            [uv_bin(), *command, "--quiet", "--color", "never"],
            cwd=folder, env=search_environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        errors = _shown(ended.stderr, folder)
        if ended.returncode != 0 and _is_contradiction(errors):
            raise ResourceError(_unresolved(errors))
        if ended.returncode != 0:
            ctx.log(f"the requirements could not be checked: {_last_line(errors)}", level="warning")
            return


def install(ctx: Context, folder: Path, content: Content, pinned: Sequence[str]) -> list[str]:
    """Create `venv` in `folder` and return its packages, such as `numpy==2.4.1`.

    `pinned` are the packages of the same environment when it was first created, which are installed
    again.
    """
    venv = folder / "venv"
    python = str(venv / "bin" / "python")
    remove_tree(venv)
    _uv(ctx, folder, ["venv", "--quiet", "--python", content.python or sys.executable, str(venv)])
    if not content.requirements:
        return []
    _write_lines(folder / "pinned.txt", [line for line in pinned if "==" in line])
    _uv(
        ctx, folder,
        ["pip", "install", "--python", python, "--requirements", "requirements.txt",
         *_constraints(folder, "constraints.txt", "pinned.txt")],
    )  # fmt: skip
    frozen = subprocess.run(
        [uv_bin(), "pip", "freeze", "--quiet", "--python", python],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # The path of a local project is no property of the environment.
    return [line.split(" @ file:")[0] for line in frozen.stdout.splitlines()]


def _constraints(folder: Path, *names: str) -> list[str]:
    """The options for these files. uv warns of an empty file."""
    return [
        word for name in names if (folder / name).stat().st_size for word in ("--constraints", name)
    ]


def _write_lines(file: Path, lines: Sequence[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _is_contradiction(errors: str) -> bool:
    flat = " ".join(errors.split())
    return any(
        text in flat
        for text in ("No solution found", "was not found in the package registry", "Couldn't parse",
                     "there are no versions of", "Expected ", "Unexpected '",
                     "Error parsing included file", "Failed to parse", "Failed to read",
                     "The build backend returned an error", "Distribution not found at",
                     "does not appear to be a Python project")
    ) and "Failed to fetch" not in flat  # fmt: skip


def _unresolved(errors: str) -> str:
    return f"requirements do not resolve (input requirements):\n{errors.strip()}"


def _shown(errors: str, folder: Path) -> str:
    """The errors without the path of a temporary folder."""
    return errors.replace(f"{folder}/", "")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "uv gave no reason"


def _uv(ctx: Context, folder: Path, arguments: list[str]) -> None:
    """Run uv and show its progress. Ends it if the user interrupts."""
    cookie = f"{ctx.root.path}:uv:{ctx.name}"
    process = subprocess.Popen(
        [uv_bin(), *arguments, "--color", "never"],
        cwd=folder, env={**search_environment(), launch.COOKIE: cookie},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    lines: list[str] = []
    reader = threading.Thread(target=_follow, args=(process, lines, ctx.log), daemon=True)
    reader.start()
    while process.poll() is None:
        if ctx.cancelled.wait(0.05):
            launch.end(cookie, 2)
            process.wait()
            raise ResourceError(f"interrupted while the environment {ctx.name} was created")
    reader.join()
    if process.returncode != 0:
        errors = "\n".join(lines)
        if "No space left" in errors:
            raise ResourceError(f"no space left in {ctx.root.path}: free disk space")
        raise ResourceError(_unresolved(errors))


def _follow(process: subprocess.Popen[str], lines: list[str], log: Callable[..., None]) -> None:
    for line in process.stderr or ():
        lines.append(line.rstrip())
        # Lines of single packages are omitted: without a terminal, each status line remains in the
        # output of the update.
        if not lines[-1].startswith((" + ", " - ", " ~ ")):
            log(lines[-1].strip(), status=True)
