"""Python environments as container images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
    configured = settings.images.get(key)
    registry = settings.registry
    if configured is None and registry is None:
        raise pulumi.RunError(
            f"{name}: no image is configured: set mlops:kubernetes.registry to a prefix such "
            "as registry.example.com/team, or set an existing image in "
            f"mlops:kubernetes.images.{key}"
        )
    images = stack_folder() / "images"

    def resolve(values: Sequence[Any]) -> tuple[str, str]:
        """The version and the reference of the image."""
        requirements, python = values
        try:
            recipe = Recipe(
                requirements=requirements,
                constraints=spec.constraints,
                projects=spec.projects,
                python=python or None,
                code=spec.code,
                options=settings.build.options(),
            )
            if configured is not None:
                return version(recipe), configured
            entry = catalog.prepare(images, registry or "", key, recipe)
        except ImageError as error:
            raise pulumi.RunError(f"{name}: {error}") from None
        return entry.version, entry.reference

    content_version, reference = _both(resolve, (spec.requirements, spec.python))
    native = None
    if configured is None:
        native = plugin_sdk.Image(name, {"image": key, "reference": reference}, opts)
    return ImageHandle(version=content_version, native=native, reference=reference)


def _both(
    function: Callable[[Sequence[Any]], tuple[str, str]], values: Sequence[Any]
) -> tuple[pulumi.Input[str], pulumi.Input[str]]:
    """Both results of `function`, as Outputs if one of the values is an Output."""
    if not any(isinstance(value, pulumi.Output) for value in values):
        return function(values)
    results = pulumi.Output.all(*values).apply(function)
    return results.apply(lambda pair: pair[0]), results.apply(lambda pair: pair[1])
