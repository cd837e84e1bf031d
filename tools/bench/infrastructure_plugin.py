"""The mlops plugin with everything below the create call left out, for benchmarks.

The engine talks to the real plugin: its gRPC server, validation, check, diff and property values.
Only what would touch the machine or a server answers at once with outputs that look like real ones.
"""

from __future__ import annotations

import zlib
from importlib.metadata import version
from typing import Any

from pulumi_mlops.plugin.handler import Context, Handler
from pulumi_mlops.plugin.handlers import handlers
from pulumi_mlops.plugin.server import serve

# Their previews ask a cluster and a registry.
_ASKING = ("mlops:kubernetes:NamespaceOwner", "mlops:index:Image")


def stubbed(handler: Handler[Any]) -> Handler[Any]:
    """The same resource type with no effect on anything."""

    def create(_self: Any, ctx: Context, new: Any) -> tuple[str, dict[str, Any]]:
        return ctx.name, outputs(handler, ctx.name, new)

    def read(_self: Any, _ctx: Context, _id: str, _state: dict[str, Any]) -> dict[str, Any]:
        return {}

    def update(
        _self: Any, ctx: Context, _id: str, _old: dict[str, Any], new: Any
    ) -> dict[str, Any]:
        return outputs(handler, ctx.name, new)

    def delete(_self: Any, _ctx: Context, _id: str, _old: dict[str, Any]) -> None:
        return

    def drift(_self: Any, _ctx: Context, _id: str, _state: dict[str, Any]) -> dict[str, str]:
        return {}

    def preview(_self: Any, _ctx: Context, _new: Any, _old: Any) -> dict[str, Any]:
        return {}

    methods: dict[str, Any] = {
        "create": create, "read": read, "update": update, "delete": delete, "drift": drift,
    }  # fmt: skip
    if handler.token in _ASKING:
        methods["preview"] = preview
    stub: Handler[Any] = type(f"Stubbed{type(handler).__name__}", (type(handler),), methods)()
    return stub


def outputs(handler: Handler[Any], name: str, inputs: Any) -> dict[str, Any]:
    """An output of the right type each; ports are told from the name, so that they are stable."""
    port = 20_000 + zlib.crc32(name.encode()) % 10_000
    found: dict[str, Any] = {}
    for output, kind in handler.outputs.items():
        if output == "addresses":
            found[output] = {
                each: [f"127.0.0.1:{port + replica}" for replica in range(inputs.replicas)]
                for each in inputs.ports
            }
        elif output.lower().endswith("url"):
            found[output] = f"http://127.0.0.1:{port}"
        else:
            empty: dict[str, Any] = {"string": f"/{name}/{output}", "array": [], "object": {}}
            found[output] = empty[kind]
    return found


def main(engine_address: str) -> None:
    """Answer the engine."""
    serve([stubbed(handler) for handler in handlers()], version("pulumi-mlops"), engine_address)
