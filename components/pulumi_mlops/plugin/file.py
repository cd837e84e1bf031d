"""`mlops:local:File`: a file of this machine that only its owner can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from ..files import write_private
from .handler import Context, Handler, Inputs, OutputField
from .values import OrUnknown, known_text


class FileInputs(Inputs):
    """Inputs of `mlops:local:File`."""

    file_name: str = Field(description="Name of the file, without a folder.")
    content: OrUnknown[str] = Field(description="Text of the file.")

    @field_validator("file_name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if "/" in name or name.startswith("."):
            raise ValueError(
                "must be a file name without a folder and without a dot at the beginning"
            )
        return name


class FileHandler(Handler[FileInputs]):
    """Writes `files/<fileName>` in the stack folder."""

    token = "mlops:local:File"
    description = "A file of this machine that only its owner can read."
    inputs = FileInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "path": OutputField(str, "Path of the file."),
        "status": OutputField(str, "`written`, `edited` or `missing`."),
    }
    replace_on = frozenset({"fileName"})

    def delete_before_replace(self, old: dict[str, Any], new: FileInputs) -> bool:
        return True

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        file = ctx.root.path / "files" / resource_id
        try:
            unchanged = file.read_text() == state.get("content")
        except FileNotFoundError:
            return {"status": "missing"}
        return {} if unchanged else {"status": "edited"}

    def preview(self, ctx: Context, new: FileInputs, old: dict[str, Any] | None) -> dict[str, Any]:
        return {"path": str(ctx.root.path / "files" / new.file_name), "status": "written"}

    def create(self, ctx: Context, new: FileInputs) -> tuple[str, dict[str, Any]]:
        file = ctx.root.folder("files") / new.file_name
        write_private(file, known_text(new.content))
        return new.file_name, {"path": str(file), "status": "written"}

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not (ctx.root.path / "files" / resource_id).exists():
            return None
        return {"status": self.drift(ctx, resource_id, state).get("status", "written")}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: FileInputs
    ) -> dict[str, Any]:
        return self.create(ctx, new)[1]

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        # The stack may have been renamed, or the file may be of another checkout.
        for file in (ctx.root.path / "files" / resource_id, Path(old["path"])):
            file.unlink(missing_ok=True)
        ctx.root.prune()
