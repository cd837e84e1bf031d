"""`mlops:index:Image`: an image in a registry, built and pushed if it is missing there."""

from __future__ import annotations

import time
from typing import Any

from pydantic import Field

from ..images import registry
from ..images.catalog import CatalogEntry, images_in
from ..images.engine import Engine
from ..images.options import ImageError
from .errors import ResourceError
from .handler import Context, Handler, Inputs
from .values import OrUnknown

_STATUS_INTERVAL = 5.0  # seconds: without a terminal, each status line remains in the output


class ImageInputs(Inputs):
    """Inputs of `mlops:index:Image`."""

    image: OrUnknown[str] = Field(description="Name of the image within the stack.")
    reference: OrUnknown[str] = Field(
        description="Reference of the image, `<registry>/<name>:<digest of its content>`."
    )


class ImageHandler(Handler[ImageInputs]):
    """Builds and pushes images with docker, podman or nerdctl. Removes nothing from a registry."""

    token = "mlops:index:Image"
    description = (
        "A container image in a registry. An image that the registry does not have is built by the "
        "container engine of this machine and pushed. Deletion leaves the image in the registry."
    )
    inputs = ImageInputs
    replace_on = frozenset({"image"})

    def preview(self, ctx: Context, new: ImageInputs, old: dict[str, Any] | None) -> dict[str, Any]:
        if registry.has(new.reference) is False:
            try:
                engine = Engine.find()
                # Only the container engine may have the login of a private registry.
                if not engine.registry_has(new.reference):
                    ctx.log(f"{new.reference} is not in its registry: it will be built and pushed")
            except ImageError as error:
                raise ResourceError(_cannot_build(new, error)) from None
        return {}

    def create(self, ctx: Context, new: ImageInputs) -> tuple[str, dict[str, Any]]:
        in_registry = registry.has(new.reference)
        if in_registry is not True:
            try:
                engine = Engine.find(cancelled=ctx.cancelled)
            except ImageError as error:
                if in_registry is False:
                    raise ResourceError(_cannot_build(new, error)) from None
                self._warn_unknown(ctx, new)
            else:
                self._build_and_push(ctx, new, engine, in_registry)
        return new.image, {}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: ImageInputs
    ) -> dict[str, Any]:
        return self.create(ctx, new)[1]

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not state:
            raise ResourceError("an Image cannot be imported: an update finds or builds it")
        return None if registry.has(state["reference"]) is False else {}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """Do nothing: other environments, and a rollback, may need the image in the registry."""

    def _build_and_push(
        self, ctx: Context, new: ImageInputs, engine: Engine, in_registry: bool | None
    ) -> None:
        """Build and push the image, unless the container engine finds it in the registry."""
        engine_finds = engine.registry_has(new.reference)
        if engine_finds or (engine_finds is None and in_registry is None):
            if not engine_finds:
                self._warn_unknown(ctx, new)
            return
        try:
            image = _recorded(ctx, new)
            if engine.size(new.reference) is None:
                ctx.log(f"building {new.reference}; log: {image.log}")
                engine.build(image, _follower(ctx, "building"))
            engine.push(image, _follower(ctx, "pushing"))
        except ImageError as error:
            raise ResourceError(str(error)) from None
        ctx.log(f"pushed {new.reference}")

    @staticmethod
    def _warn_unknown(ctx: Context, new: ImageInputs) -> None:
        ctx.log(
            f"the registry could not be read, so {new.reference} may be missing: pods then wait "
            "for it. `mlops images build --push` builds and pushes it",
            level="warning",
        )


def _cannot_build(new: ImageInputs, error: ImageError) -> str:
    return (
        f"{new.reference} is not in its registry, and this machine cannot build it: {error}\n"
        "Or build and push it on a machine with a container engine: mlops images build --push"
    )


def _recorded(ctx: Context, new: ImageInputs) -> CatalogEntry:
    """The catalog entry of the image, which the Pulumi program wrote."""
    for image in images_in(ctx.root.path / "images"):
        if (image.name, image.reference) == (new.image, new.reference):
            return image
    raise ImageError(f"{new.reference} is not the current image of {new.image}: update again")


def _follower(ctx: Context, action: str) -> Any:
    """A function that shows lines of a log as the status, at most one in each interval."""
    last_shown = time.monotonic()

    def follow(line: str) -> None:
        nonlocal last_shown
        if time.monotonic() - last_shown >= _STATUS_INTERVAL:
            last_shown = time.monotonic()
            ctx.log(f"{action}: {line}", status=True)

    return follow
