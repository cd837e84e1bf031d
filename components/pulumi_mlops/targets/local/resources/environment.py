"""`mlops:local:Environment`: a virtual environment created by uv, and the code that runs in it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ....files import remove_tree
from ....plugin.errors import ResourceError
from ....plugin.handler import Context, Handler, Inputs, OutputField
from ....plugin.values import has_unknown
from ....sources import copy, digest
from ....stackdir import instances
from ..host import launch
from ..host.uv import uv_bin

_MIN_FREE_BYTES = 200 * 1024 * 1024
_RETAINED_SNAPSHOTS = 2


class Source(Inputs):
    """A folder of code."""

    path: str = Field(description="Path of the folder. A change alone is no change of the code.")
    digest: str = Field(description="Digest of the folder's content.")


class EnvironmentInputs(Inputs):
    """Inputs of `mlops:local:Environment`."""

    requirements: list[str] = Field(description="Requirements in the syntax of pip.")
    python: str | None = Field(
        None,
        description="Python version, such as `3.11`. Default: the version that runs the plugin.",
    )
    code: dict[str, Source] = Field(
        {},
        description="Folders of code, by their path in the snapshot. `.` is its top folder.",
    )


def _is_mlflow(requirement: Any) -> bool:
    return isinstance(requirement, str) and re.match(r"mlflow\b(?!-)", requirement) is not None


class EnvironmentHandler(Handler[EnvironmentInputs]):
    """Manages `envs/<id>/venv` and the snapshots of the code in `envs/<id>/code`.

    Changed requirements create a new environment, as with an image. Changed code creates a new
    snapshot in the same environment. The two newest snapshots are retained, since programs change
    from one to the next one after the other.
    """

    token = "mlops:local:Environment"
    description = "A Python environment, created by uv, and a snapshot of code."
    inputs = EnvironmentInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "path": OutputField(str, "Folder of the virtual environment."),
        "codePath": OutputField(str, "Folder of the snapshot of the code."),
        "status": OutputField(str, "`ready` or `missing`."),
    }
    path_output = ("path", 3)
    replace_on = frozenset({"requirements", "python"})

    def check(self, ctx: Context, new: EnvironmentInputs) -> list[tuple[str, str]]:
        problems = [
            (f"code.{name}", "must be a relative path without `..`")
            for name in new.code
            if Path(name).is_absolute() or ".." in Path(name).parts
        ]
        if new.python is not None and (problem := _python_problem(new.python)):
            problems.append(("python", problem))
        if "%" in str(ctx.root.path) and any(_is_mlflow(each) for each in new.requirements):
            problems.append(
                (
                    "requirements",
                    f"MLflow does not start in a folder with `%` in its path ({ctx.root.path}): "
                    "move the project, or set mlops:dataDir to a folder without it",
                )
            )
        return problems

    def replaces(self, changed: set[str], old: dict[str, Any], new: EnvironmentInputs) -> set[str]:
        return changed & self.replace_on

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        complete = (
            Path(state["path"], "bin", "python").exists() and Path(state["codePath"]).is_dir()
        )
        return {} if complete else {"status": "missing"}

    def preview(
        self, ctx: Context, new: EnvironmentInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        if old is not None:
            folder = Path(old["path"]).parent
            return {
                "path": old["path"],
                "codePath": str(folder / "code" / _code_digest(new)),
                "status": "ready",
            }
        if not has_unknown(new.requirements):
            resolve(ctx, new)
        return {"status": "ready"}

    def create(self, ctx: Context, new: EnvironmentInputs) -> tuple[str, dict[str, Any]]:
        envs = ctx.root.folder("envs")
        for leftover in instances(envs, ctx.name):
            if leftover not in ctx.known_ids:
                remove_tree(envs / leftover)
        resource_id = ctx.root.generation("environment", ctx.name)
        try:
            return resource_id, self._create(ctx, envs / resource_id, new)
        except BaseException:
            remove_tree(envs / resource_id)
            ctx.root.prune(keep_logs=True)
            raise

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not Path(state["path"]).exists():
            return None
        return {"status": "missing" if self.drift(ctx, resource_id, state) else "ready"}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: EnvironmentInputs
    ) -> dict[str, Any]:
        return self._create(ctx, ctx.root.folder("envs") / resource_id, new)

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        remove_tree(ctx.root.path / "envs" / resource_id)
        ctx.root.prune()

    def _create(self, ctx: Context, folder: Path, new: EnvironmentInputs) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < _MIN_FREE_BYTES:
            raise ResourceError(
                f"{free // 2**20} MiB are free in {folder.parent}: an environment needs at least "
                f"{_MIN_FREE_BYTES // 2**20} MiB: free disk space, or set mlops:dataDir to "
                "another disk"
            )
        try:
            if not (folder / "venv" / "bin" / "python").exists():
                self._install(ctx, folder, new)
            snapshot = self._snapshot(folder / "code", new)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise ResourceError(f"no space left in {folder.parent}: free disk space") from None
            raise
        return {"path": str(folder / "venv"), "codePath": str(snapshot), "status": "ready"}

    def _install(self, ctx: Context, folder: Path, new: EnvironmentInputs) -> None:
        python = new.python or sys.executable
        venv = folder / "venv"
        remove_tree(venv)
        requirements = folder / "requirements.txt"
        requirements.write_text("".join(f"{line}\n" for line in new.requirements))
        _uv(ctx, ["venv", "--quiet", "--no-python-downloads", "--python", python, str(venv)])
        if new.requirements:
            _uv(
                ctx,
                ["pip", "install", "--python", str(venv / "bin" / "python"),
                 "--requirements", str(requirements)],
            )  # fmt: skip

    def _snapshot(self, snapshots: Path, new: EnvironmentInputs) -> Path:
        snapshot = snapshots / _code_digest(new)
        if not snapshot.exists():
            partial = snapshots / f".{snapshot.name}.new"
            remove_tree(partial)
            partial.mkdir(parents=True)
            for import_path, source in new.code.items():
                if digest(Path(source.path)) != source.digest:
                    raise ResourceError(f"{source.path} changed since the preview: update again")
                copy(Path(source.path), partial / import_path)
            partial.rename(snapshot)
        os.utime(snapshot)
        newest = sorted(snapshots.iterdir(), key=lambda entry: entry.stat().st_mtime, reverse=True)
        for old in newest[_RETAINED_SNAPSHOTS:]:
            remove_tree(old)
        return snapshot


def resolve(ctx: Context, new: EnvironmentInputs) -> None:
    """Raise ResourceError if no set of packages meets the requirements.

    If the package index cannot be reached, logs a warning instead.
    """
    ended = subprocess.run(
        [uv_bin(), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "-",
         *(["--python-version", new.python] if new.python else [])],
        input="\n".join(new.requirements),
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    if ended.returncode == 0:
        return
    if _is_contradiction(ended.stderr):
        raise ResourceError(_unresolved(ended.stderr))
    ctx.log(f"the requirements could not be checked: {_last_line(ended.stderr)}", level="warning")


def _is_contradiction(errors: str) -> bool:
    flat = " ".join(errors.split())
    return any(
        text in flat
        for text in ("No solution found", "was not found in the package registry", "Couldn't parse",
                     "there are no versions of", "Expected ", "Unexpected '",
                     "Error parsing included file", "Distribution not found at")
    ) and "Failed to fetch" not in flat  # fmt: skip


def _unresolved(errors: str) -> str:
    return f"requirements do not resolve (input requirements):\n{errors.strip()}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "uv gave no reason"


def _code_digest(new: EnvironmentInputs) -> str:
    if len(new.code) == 1:
        (source,) = new.code.values()
        return source.digest
    parts = "\0".join(f"{path}\0{source.digest}" for path, source in sorted(new.code.items()))
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def _python_problem(version: str) -> str | None:
    found = subprocess.run(
        [uv_bin(), "python", "find", "--no-python-downloads", version],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if found.returncode == 0:
        return None
    listed = subprocess.run(
        [uv_bin(), "python", "list", "--only-installed", "--output-format", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    versions = sorted({entry["version"] for entry in json.loads(listed.stdout or "[]")})
    return (
        f"Python {version} is not on this machine, which has {', '.join(versions) or 'none'}: "
        f"choose one of these, or run `uv python install {version}`"
    )


def _uv(ctx: Context, arguments: list[str]) -> None:
    """Run uv and show its progress. Ends it if the user interrupts."""
    cookie = f"{ctx.root.path}:uv:{ctx.name}"
    environment = {**os.environ, launch.COOKIE: cookie}
    process = subprocess.Popen(
        [uv_bin(), *arguments, "--color", "never"],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    lines: list[str] = []

    def follow() -> None:
        for line in process.stderr or ():
            lines.append(line.rstrip())
            # Lines of single packages are omitted: without a terminal, each status line remains in
            # the output of the update.
            if not lines[-1].startswith((" + ", " - ", " ~ ")):
                ctx.log(lines[-1].strip(), status=True)

    reader = threading.Thread(target=follow, daemon=True)
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
