"""`mlops:local:Volume`: a folder of data that outlives the programs that use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ....files import remove_tree
from ....plugin.handler import Context, Handler, Inputs, OutputField


class VolumeInputs(Inputs):
    """Inputs of `mlops:local:Volume`."""

    retain: bool = Field(
        True,
        description="Keep the data when the resource is deleted. A new resource of the same name "
        "uses it again.",
    )


class VolumeHandler(Handler[VolumeInputs]):
    """Manages `volumes/<name>`. An existing folder is used with its data."""

    token = "mlops:local:Volume"
    description = "A folder of this machine for data."
    inputs = VolumeInputs
    outputs: ClassVar[dict[str, OutputField]] = {"path": OutputField(str, "Path of the folder.")}
    path_output = ("path", 2)

    def preview(
        self, ctx: Context, new: VolumeInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        return {"path": str(ctx.root.path / "volumes" / ctx.name)}

    def create(self, ctx: Context, new: VolumeInputs) -> tuple[str, dict[str, Any]]:
        return ctx.name, {"path": str(ctx.root.folder("volumes", ctx.name))}

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        path = ctx.root.path / "volumes" / resource_id
        return {"path": str(path)} if path.is_dir() else None

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: VolumeInputs
    ) -> dict[str, Any]:
        return {"path": str(ctx.root.folder("volumes", resource_id))}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        if old.get("retain", True):
            ctx.log(f"data is retained in {Path(old['path'])}")
        else:
            remove_tree(ctx.root.path / "volumes" / resource_id)
        ctx.root.prune()
