"""The mlops plugin with everything below the create call left out, for benchmarks.

The engine talks to the real plugin: its gRPC server, validation, check, diff and property values.
Only what would touch the machine or a server answers at once with outputs that look like real ones.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, get_origin

from pulumi_mlops.plugin.handler import Context, Handler, ResourceSet
from pulumi_mlops.plugin.handlers import SharedResources
from pulumi_mlops.plugin.server import serve
from pulumi_mlops.targets import registry

# Their previews send requests to a cluster and a registry.
_REQUESTS_IN_PREVIEW = (
    "mlops:kubernetes:ClusterIdentity",
    "mlops:kubernetes:NamespaceOwner",
    "mlops:kubernetes:VolumeGuard",
    "mlops:index:Image",
)


class StubbedResources(ResourceSet):
    """The same resource types and checks of the configuration; no resource has an effect."""

    def __init__(self, real: ResourceSet) -> None:
        self._real = real

    def handlers(self) -> list[Handler[Any]]:
        """One handler per resource type."""
        return [stubbed(handler) for handler in self._real.handlers()]

    def check_config(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The real check."""
        return self._real.check_config(old, new)


def stubbed(handler: Handler[Any]) -> Handler[Any]:
    """The same resource type with no effect on anything."""

    def create(_self: Any, ctx: Context, new: Any) -> tuple[str, dict[str, Any]]:
        return ctx.name, outputs(handler, ctx, new)

    def read(_self: Any, _ctx: Context, _id: str, _state: dict[str, Any]) -> dict[str, Any]:
        return {}

    def update(
        _self: Any, ctx: Context, _id: str, _old: dict[str, Any], new: Any
    ) -> dict[str, Any]:
        return outputs(handler, ctx, new)

    def delete(_self: Any, _ctx: Context, _id: str, _old: dict[str, Any]) -> None:
        return

    def drift(_self: Any, _ctx: Context, _id: str, _state: dict[str, Any]) -> dict[str, str]:
        return {}

    def preview(_self: Any, _ctx: Context, _new: Any, _old: Any) -> dict[str, Any]:
        return {}

    methods: dict[str, Any] = {
        "create": create, "read": read, "update": update, "delete": delete, "drift": drift,
    }  # fmt: skip
    if handler.token in _REQUESTS_IN_PREVIEW:
        methods["preview"] = preview
    stub = copy.copy(handler)
    stub.__class__ = type(f"Stubbed{type(handler).__name__}", (type(handler),), methods)
    return stub


def outputs(handler: Handler[Any], ctx: Context, inputs: Any) -> dict[str, Any]:
    """Outputs of the right types. Ports depend on the name only, so that they are stable."""
    name = ctx.name
    path_name, depth = handler.path_output or ("", 1)
    port = 20_000 + zlib.crc32(name.encode()) % 10_000
    found: dict[str, Any] = {}
    for output, field in handler.outputs.items():
        if output == "addresses":
            found[output] = {
                each: [f"127.0.0.1:{port + replica}" for replica in range(inputs.replicas)]
                for each in inputs.ports
            }
        elif output.lower().endswith("url"):
            found[output] = f"http://127.0.0.1:{port}"
        elif output == "uri":
            found[output] = f"s3://{name}"
        elif output == path_name and field.type is str:
            found[output] = str(ctx.root.path.joinpath(*[name] * depth))
        else:
            empty: dict[Any, Any] = {str: f"/{name}/{output}", list: [], dict: {}}
            found[output] = empty[get_origin(field.type) or field.type]
    return found


def main(engine_address: str) -> None:
    """Answer the engine."""
    real = [SharedResources(), *(registry.load(name).resources() for name in registry.names())]
    stubs = [StubbedResources(each) for each in real]
    serve(stubs, version("pulumi-mlops"), engine_address)
