"""The gRPC server of the plugin: it serves the engine that started it, and ends with it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2_grpc

from .dispatch import MlopsProvider
from .errors import ResourceError
from .handler import ResourceSet


class _Servicer(ProviderServicer):
    """The SDK's servicer, with readable error messages instead of tracebacks."""


def _with_readable_errors(method: str) -> Callable[..., Any]:
    inner = getattr(ProviderServicer, method)
    # The SDK wraps each method in a decorator that appends a traceback to every error.
    inner = inner.__closure__[0].cell_contents if inner.__closure__ else inner

    async def call(self: _Servicer, request: Any, context: Any) -> Any:
        try:
            return await inner(self, request, context)
        except ResourceError as error:
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-3:])
            message = (
                f"{type(error).__name__}: {error}\nThis is an error of the mlops plugin:\n{where}"
            )
            await context.abort(grpc.StatusCode.INTERNAL, message)

    return call


for _method in ("Check", "Diff", "Create", "Read", "Update", "Delete", "Configure", "CheckConfig"):
    setattr(_Servicer, _method, _with_readable_errors(_method))


def _engine_log(address: str) -> Callable[..., None]:
    """A function that sends log lines to the engine, which shows them with the resource."""
    if not address:
        return lambda level, urn, message, status=False: print(message, file=sys.stderr)
    stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address))
    levels = {
        "debug": engine_pb2.DEBUG,
        "info": engine_pb2.INFO,
        "warning": engine_pb2.WARNING,
        "error": engine_pb2.ERROR,
    }

    def log(level: str, urn: str, message: str, status: bool = False) -> None:
        try:
            stub.Log(
                engine_pb2.LogRequest(
                    severity=levels[level], urn=urn, message=message, ephemeral=status
                )
            )
        except grpc.RpcError:  # the engine has ended
            return

    return log


async def _watch_engine(engine: int) -> None:
    """Wait until the process of the engine has ended. The plugin must not outlive it."""
    while os.getppid() == engine:
        await asyncio.sleep(0.5)


def serve(resource_sets: Sequence[ResourceSet], version: str, engine_address: str) -> None:
    """Serve the engine at `engine_address` until it ends or stops the plugin."""
    engine = os.getppid()
    provider = MlopsProvider(resource_sets, version, _engine_log(engine_address))

    async def run() -> None:
        server = grpc.aio.server(options=_GRPC_CHANNEL_OPTIONS)
        servicer = _Servicer([], version, provider, engine_address=engine_address)
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        done = asyncio.Event()
        # The engine ends a plugin with SIGINT, and kills it after 5 s. Ctrl-C sends no SIGINT to
        # plugins, which have their own process group: the engine calls Cancel instead.
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, done.set)
        waits = [asyncio.ensure_future(done.wait()), asyncio.ensure_future(_watch_engine(engine))]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.get_running_loop().run_in_executor(None, provider.stop)
        await server.stop(grace=1)
        for wait in waits:
            wait.cancel()

    asyncio.run(run())
