"""`mlops:index:Image`: an image that its registry has, built and pushed where it had not."""

from __future__ import annotations

import time
from typing import Any

from pydantic import Field

from ..images import registry
from ..images.catalog import Image, images_in
from ..images.engine import Engine
from ..images.options import ImageError
from .errors import ResourceError
from .handler import Context, Handler, Inputs
from .values import Known

_SHOWN_EVERY = 5.0  # seconds: without a terminal each line stays


class ImageInputs(Inputs):
    """Inputs of `mlops:index:Image`."""

    image: Known[str] = Field(description="Name of the image within the stack.")
    reference: Known[str] = Field(
        description="Reference of the image, `<registry>/<name>:<digest of its content>`."
    )


class ImageHandler(Handler[ImageInputs]):
    """Builds and pushes by docker, podman or nerdctl; nothing is ever removed from a registry."""

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
                # What only the engine has a login for, only the engine can see.
                if not engine.registry_has(new.reference):
                    ctx.log(f"{new.reference} is not in its registry: it will be built and pushed")
            except ImageError as error:
                raise ResourceError(_nobody_builds(new, error)) from None
        return {}

    def create(self, ctx: Context, new: ImageInputs) -> tuple[str, dict[str, Any]]:
        there = registry.has(new.reference)
        if there is not True:
            try:
                engine = Engine.find(cancelled=ctx.cancelled)
            except ImageError as error:
                if there is False:
                    raise ResourceError(_nobody_builds(new, error)) from None
                self._tell_unknown(ctx, new)
            else:
                self._bring(ctx, new, engine, there)
        return new.image, {}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: ImageInputs
    ) -> dict[str, Any]:
        return self.create(ctx, new)[1]

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not state:
            raise ResourceError("an image cannot be imported: the next update finds or makes it")
        return None if registry.has(state["reference"]) is False else {}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """It stays in the registry: other environments and a rollback may want it."""

    def _bring(self, ctx: Context, new: ImageInputs, engine: Engine, there: bool | None) -> None:
        """Build and push it if the engine, too, does not find it in the registry."""
        told = engine.registry_has(new.reference)
        if told or (told is None and there is None):
            if not told:
                self._tell_unknown(ctx, new)
            return
        try:
            image = _recorded(ctx, new)
            if engine.size(new.reference) is None:
                ctx.log(f"builds {new.reference}; its log: {image.log}")
                engine.build(image, _follower(ctx, "builds"))
            engine.push(image, _follower(ctx, "pushes"))
        except ImageError as error:
            raise ResourceError(str(error)) from None
        ctx.log(f"pushed {new.reference}")

    @staticmethod
    def _tell_unknown(ctx: Context, new: ImageInputs) -> None:
        ctx.log(
            f"no registry told whether it has {new.reference}: where the cluster has not got it "
            "either, pods wait for it; `mlops images build --push` builds and pushes it",
            level="warning",
        )


def _nobody_builds(new: ImageInputs, error: ImageError) -> str:
    return (
        f"the registry has not {new.reference}, and nothing here can build it: {error}\n"
        "Or build and push it where one is: mlops images build --push"
    )


def _recorded(ctx: Context, new: ImageInputs) -> Image:
    """What the program wrote down of it."""
    for image in images_in(ctx.root.path / "images"):
        if (image.name, image.reference) == (new.image, new.reference):
            return image
    raise ImageError(f"{new.reference} is not what {new.image} is made of now: run it again")


def _follower(ctx: Context, doing: str) -> Any:
    """Shows the last line of a log as it grows, now and then."""
    shown = [time.monotonic()]

    def follow(line: str) -> None:
        if time.monotonic() - shown[0] >= _SHOWN_EVERY:
            shown[0] = time.monotonic()
            ctx.log(f"{doing}: {line}", status=True)

    return follow
