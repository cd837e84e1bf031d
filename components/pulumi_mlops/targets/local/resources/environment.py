"""`mlops:local:Environment`: a virtual environment created by uv, and the code that runs in it."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ....files import remove_tree
from ....plugin.errors import ResourceError
from ....plugin.handler import Context, Handler, Inputs, OutputField
from ....plugin.values import OrUnknown, has_unknown
from ....sources import copy, digest
from ....stackdir import instances
from ..host import installer
from ..host.uv import python_problem

_MIN_FREE_BYTES = 200 * 1024 * 1024
_RETAINED_SNAPSHOTS = 2


class Source(Inputs):
    """A folder of code, or a file."""

    path: str = Field(description="Path. A change alone is no change of the content.")
    digest: str = Field(description="Digest of the content.")


class ProjectSource(Source):
    """A Python project, or a file such as a wheel."""


class EnvironmentInputs(Inputs):
    """Inputs of `mlops:local:Environment`."""

    requirements: OrUnknown[list[OrUnknown[str]]] = Field(
        description="Requirements in the syntax of pip. `./projects/<name>` stands for an item of "
        "`projects`."
    )
    constraints: list[str] = Field([], description="Constraints in the syntax of pip.")
    projects: dict[str, ProjectSource] = Field(
        {}, description="Python projects and packages on this machine, by name."
    )
    python: OrUnknown[str | None] = Field(
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
        "packages": OutputField(
            list[str],
            "Installed packages, such as `numpy==2.4.1`. Without a change of the inputs they are "
            "installed again if the environment is lost.",
            state_only=True,
        ),
        "status": OutputField(str, "`ready` or `missing`."),
    }
    path_output = ("path", 3)
    replace_on = frozenset({"requirements", "constraints", "projects", "python"})

    def check(self, ctx: Context, new: EnvironmentInputs) -> list[tuple[str, str]]:
        problems = [
            (f"{kind}.{name}", "must be a relative path without `..`")
            for kind, names in (("code", new.code), ("projects", new.projects))
            for name in names
            if Path(name).is_absolute() or ".." in Path(name).parts
        ]
        if isinstance(new.python, str) and new.python and (problem := python_problem(new.python)):
            problems.append(("python", problem))
        known = [] if has_unknown(new.requirements) else new.requirements
        if "%" in str(ctx.root.path) and any(_is_mlflow(each) for each in known):
            problems.append(
                (
                    "requirements",
                    f"MLflow does not start in a folder with `%` in its path ({ctx.root.path}): "
                    "move the project, or set mlops:dataDir to a folder without it",
                )
            )
        return problems

    def replaces(self, changed: set[str], old: dict[str, Any], new: EnvironmentInputs) -> set[str]:
        before = {name: source["digest"] for name, source in (old.get("projects") or {}).items()}
        same_content = before == {name: source.digest for name, source in new.projects.items()}
        return (changed & self.replace_on) - ({"projects"} if same_content else set())

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
                "packages": old.get("packages", []),
                "status": "ready",
            }
        if not has_unknown([new.requirements, new.python]):
            with tempfile.TemporaryDirectory(prefix="mlops-requirements-") as folder_of_uv:
                content = _content(new)
                content.write(Path(folder_of_uv), _digests(new))
                installer.resolve(ctx, Path(folder_of_uv), content)
        return {"status": "ready"}

    def create(self, ctx: Context, new: EnvironmentInputs) -> tuple[str, dict[str, Any]]:
        envs = ctx.root.folder("envs")
        for leftover in instances(envs, ctx.name):
            if leftover not in ctx.known_ids:
                remove_tree(envs / leftover)
        resource_id = ctx.root.generation("environment", ctx.name)
        try:
            return resource_id, self._create(ctx, envs / resource_id, new, [])
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
        folder = ctx.root.folder("envs") / resource_id
        return self._create(ctx, folder, new, old.get("packages") or [])

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        remove_tree(ctx.root.path / "envs" / resource_id)
        ctx.root.prune()

    def _create(
        self, ctx: Context, folder: Path, new: EnvironmentInputs, packages: list[str]
    ) -> dict[str, Any]:
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
                content = _content(new)
                content.write(folder, _digests(new))
                packages = installer.install(ctx, folder, content, packages)
            snapshot = self._snapshot(folder / "code", new)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise ResourceError(f"no space left in {folder.parent}: free disk space") from None
            raise
        return {
            "path": str(folder / "venv"),
            "codePath": str(snapshot),
            "packages": packages,
            "status": "ready",
        }

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


def _code_digest(new: EnvironmentInputs) -> str:
    if len(new.code) == 1:
        (source,) = new.code.values()
        return source.digest
    parts = "\0".join(f"{path}\0{source.digest}" for path, source in sorted(new.code.items()))
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def _content(new: EnvironmentInputs) -> installer.Content:
    return installer.Content(
        requirements=[str(line) for line in new.requirements],
        python=new.python or None,
        constraints=new.constraints,
        projects={name: Path(source.path) for name, source in new.projects.items()},
    )


def _digests(new: EnvironmentInputs) -> dict[str, str]:
    return {name: source.digest for name, source in new.projects.items()}
