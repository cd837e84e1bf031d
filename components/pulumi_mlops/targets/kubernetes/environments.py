"""Python environments as container images."""

from __future__ import annotations

import pulumi

from ...images import catalog
from ...images.context import Recipe, version
from ...images.options import ImageError
from ...plugin import sdk as plugin_sdk
from ..port import EnvironmentSpec, stack_folder
from .handles import ImageHandle
from .settings import KubernetesSettings


def image(
    settings: KubernetesSettings, name: str, spec: EnvironmentSpec, opts: pulumi.ResourceOptions
) -> ImageHandle:
    """The image of an environment: the configured one, or one that `mlops images` builds."""
    key = name.removesuffix("-environment")
    recipe = Recipe(
        requirements=spec.requirements,
        python=spec.python,
        code=spec.code,
        options=settings.build.options(),
    )
    try:
        if configured := settings.images.get(key):
            return ImageHandle(version=version(recipe), native=None, reference=configured)
        if settings.registry is None:
            raise pulumi.RunError(
                f"{name}: no image is configured: set mlops:kubernetes.registry to a prefix such "
                "as registry.example.com/team, or set an existing image in "
                f"mlops:kubernetes.images.{key}"
            )
        entry = catalog.prepare(stack_folder() / "images", settings.registry, key, recipe)
    except ImageError as error:
        raise pulumi.RunError(f"{name}: {error}") from None
    native = plugin_sdk.Image(name, {"image": key, "reference": entry.reference}, opts)
    return ImageHandle(version=entry.version, native=native, reference=entry.reference)
