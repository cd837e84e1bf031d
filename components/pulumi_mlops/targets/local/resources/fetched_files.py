"""`mlops:local:FetchedFiles`: a folder that a program fills once, for processes."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ....files import remove_tree
from ....plugin.errors import ResourceError
from ....plugin.handler import Context, Handler, Inputs, OutputField
from ....plugin.values import OrUnknown
from ....stackdir import instances
from ..host import launch
from ..host.programs import command_of, environment_of, working_directory

_COMPLETE = "complete"
"""The file next to a folder that is complete."""


class FetchedFilesInputs(Inputs):
    """Inputs of `mlops:local:FetchedFiles`.

    A change of `content` fetches into another folder. A change of another input, such as an address
    or a credential, causes no update and applies to the next fetch.
    """

    command: list[OrUnknown[str]] = Field(
        min_length=1, description="Program and arguments. It fills the folder FETCHED_DIR."
    )
    env: dict[str, OrUnknown[str]] = Field({}, description="Environment variables.")
    environment: OrUnknown[str] | None = Field(
        None,
        description="Folder of a virtual environment. Default: the environment of the plugin.",
    )
    code: OrUnknown[str] | None = Field(
        None,
        description="Working directory, from which Python imports. Default: the folder itself.",
    )
    content: OrUnknown[str] = Field(
        "", description="Identifies the content of the files. A change fetches other files."
    )
    timeout_seconds: float = Field(600, gt=0, description="Time limit of a fetch, in seconds.")


class FetchedFilesHandler(Handler[FetchedFilesInputs]):
    """Manages `fetched/<id>/files`, a folder for each content."""

    token = "mlops:local:FetchedFiles"
    description = "A folder that a program fills once, removed with the resource."
    inputs = FetchedFilesInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "path": OutputField(str, "Path of the folder."),
        "status": OutputField(str, "`complete` or `missing`.", state_only=True),
    }
    path_output = ("path", 3)
    replace_on = frozenset({"content"})
    # They are for the next fetch, which has the new ones.
    ignore_in_diff = frozenset({"command", "env", "environment", "code", "timeoutSeconds"})

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        folder = ctx.root.path / "fetched" / resource_id
        complete = (folder / _COMPLETE).exists() and (folder / "files").is_dir()
        return {} if complete else {"status": "missing"}

    def preview(
        self, ctx: Context, new: FetchedFilesInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        return {"status": "complete"} | ({} if old is None else {"path": old["path"]})

    def create(self, ctx: Context, new: FetchedFilesInputs) -> tuple[str, dict[str, Any]]:
        fetched = ctx.root.folder("fetched")
        for leftover in instances(fetched, ctx.name):
            if leftover not in ctx.known_ids:
                remove_tree(fetched / leftover)
        resource_id = ctx.root.generation("fetched", ctx.name)
        try:
            return resource_id, self._fetch(ctx, fetched / resource_id, new)
        except BaseException:
            remove_tree(fetched / resource_id)
            ctx.root.prune(keep_logs=True)
            raise

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        return {"status": "missing" if self.drift(ctx, resource_id, state) else "complete"}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: FetchedFilesInputs
    ) -> dict[str, Any]:
        if not self.drift(ctx, resource_id, old):
            return {"path": old["path"], "status": "complete"}
        return self._fetch(ctx, ctx.root.folder("fetched") / resource_id, new)

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        remove_tree(ctx.root.path / "fetched" / resource_id)
        ctx.root.prune()

    def _fetch(self, ctx: Context, folder: Path, new: FetchedFilesInputs) -> dict[str, Any]:
        files = folder / "files"
        files.mkdir(mode=0o700, parents=True, exist_ok=True)
        _run(ctx, files, new)
        (folder / _COMPLETE).touch()
        return {"path": str(files), "status": "complete"}


def _run(ctx: Context, files: Path, new: FetchedFilesInputs) -> None:
    """Run the program. Raises ResourceError with the end of its output if it fails."""
    cookie = f"{ctx.root.path}:fetch:{ctx.name}"
    launch.end(cookie, 2)  # of an update that was killed
    env = environment_of(
        ctx.root, new.environment, new.code, new.env, {"FETCHED_DIR": str(files)}
    ) | {launch.COOKIE: cookie}
    log = files.with_name("log")
    ctx.log("fetching files", status=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command_of(new.environment, new.command, env),
            cwd=working_directory(new.code) or files,
            env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + (ctx.timeout or new.timeout_seconds)
    reason = ""
    while process.poll() is None:
        if ctx.cancelled.wait(0.05):
            reason = "interrupted while files were fetched"
        elif time.monotonic() > deadline:
            reason = f"not fetched after {new.timeout_seconds:g} s (input timeoutSeconds)"
        if reason:
            process.kill()
            process.wait()
            launch.end(cookie, 0)
    text = log.read_text(errors="replace").strip()
    log.unlink()
    if reason:
        raise ResourceError(reason)
    if process.returncode != 0:
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        message = errors[-1].removeprefix("error: ") if errors else text[-2000:]
        raise ResourceError(message or f"exit code {process.returncode}")
    ctx.log("files fetched", status=True)
