"""The plugin's gRPC server: it answers the engine that started it, and ends with it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    plugin_pb2,
    provider_pb2,
    provider_pb2_grpc,
    status_pb2,
)

from .api import ApiError, UnknownKind, Unreachable
from .checking import Refused
from .cluster import Conflict
from .diff import Change
from .kubeconfig import KubeconfigError
from .objects import id_of
from .resources import InitFailed, Resources
from .settings import Settings, replacing
from .wire import Object, decode, encode, plain

VERSION: Final = "4.34.2"
"""Of the official plugin that is stood in for; the engine compares it with the SDK's."""
_KINDS: Final = {"add": 0, "add+replace": 1, "delete": 2, "delete+replace": 3, "update": 4}
_KINDS["update+replace"] = 5
_EXPECTED: Final = (ApiError, UnknownKind, Unreachable, Refused, Conflict, KubeconfigError)


def _told(method: Callable[..., Any]) -> Callable[..., Any]:
    """Errors as messages for the engine's user."""

    @wraps(method)
    def call(self: Servicer, request: Any, context: Any) -> Any:
        try:
            return method(self, request, context)
        except InitFailed as error:
            detail = Packed()
            detail.Pack(
                provider_pb2.ErrorResourceInitFailed(
                    id=error.resource_id,
                    properties=encode(error.state),
                    reasons=error.reasons,
                    inputs=None if error.inputs is None else encode(error.inputs),
                )
            )
            code = grpc.StatusCode.UNKNOWN
            status = status_pb2.Status(code=code.value[0], message=str(error), details=[detail])
            context.set_trailing_metadata(
                (("grpc-status-details-bin", status.SerializeToString()),)
            )
            context.abort(code, str(error))
        except _EXPECTED as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-3:])
            context.abort(
                grpc.StatusCode.INTERNAL,
                f"{type(error).__name__}: {error}\nThis is an error of the stand-in:\n{where}",
            )

    return call


class Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """The engine's requests, taken apart for Resources and answered."""

    def __init__(self, log: Callable[..., None]) -> None:
        self._log = log
        self._resources = Resources(Settings(), log)

    @property
    def cancelled(self) -> threading.Event:
        """Set when operations are to end."""
        return self._resources.cancelled

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=VERSION)

    def GetSchema(self, request: Any, context: Any) -> Any:
        return provider_pb2.GetSchemaResponse(schema='{"name": "kubernetes", "version": "4.34.2"}')

    @_told
    def CheckConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    @_told
    def DiffConfig(self, request: Any, context: Any) -> Any:
        old = decode(request.old_inputs if request.HasField("old_inputs") else request.olds)
        new = decode(request.news)
        changed = sorted(key for key in {*old, *new} if plain(old.get(key)) != plain(new.get(key)))
        return provider_pb2.DiffResponse(
            changes=_changed(changed), diffs=changed, replaces=replacing(old, new)
        )

    @_told
    def Configure(self, request: Any, context: Any) -> Any:
        args = decode(request.args)
        for key, value in request.variables.items():
            args.setdefault(key.rsplit(":", 1)[-1], value)
        self._resources.settings = Settings.of(args)
        self._log("info", "", "kubernetes provider: stand-in of tests/")
        return provider_pb2.ConfigureResponse(
            acceptSecrets=True, supportsPreview=True, supports_autonaming_configuration=True
        )

    @_told
    def Check(self, request: Any, context: Any) -> Any:
        autonaming = request.autonaming if request.HasField("autonaming") else None
        try:
            inputs = self._resources.check(
                request.urn,
                decode(request.news),
                decode(request.olds),
                seed=request.randomSeed,
                proposed=autonaming.proposed_name if autonaming else None,
            )
        except Refused as error:
            failure = provider_pb2.CheckFailure(reason=str(error))
            return provider_pb2.CheckResponse(inputs=request.news, failures=[failure])
        return provider_pb2.CheckResponse(inputs=encode(inputs))

    @_told
    def Diff(self, request: Any, context: Any) -> Any:
        found = self._resources.diff(
            _old_inputs(request), decode(request.news), list(request.ignoreChanges)
        )
        return provider_pb2.DiffResponse(
            changes=_changed(found.changes),
            replaces=[each.spelled for each in found.replaces],
            diffs=sorted({str(each.path[0]) for each in found.changes}),
            detailedDiff={
                each.spelled: _property_diff(each, each in found.replaces) for each in found.changes
            },
            hasDetailedDiff=True,
            deleteBeforeReplace=found.delete_first,
        )

    @_told
    def Create(self, request: Any, context: Any) -> Any:
        state = self._resources.create(
            request.urn,
            decode(request.properties),
            timeout=request.timeout,
            preview=request.preview,
        )
        resource_id = "" if request.preview else id_of(plain(state))
        return provider_pb2.CreateResponse(id=resource_id, properties=encode(state))

    @_told
    def Update(self, request: Any, context: Any) -> Any:
        state = self._resources.update(
            request.urn,
            decode(request.olds),
            _old_inputs(request),
            decode(request.news),
            timeout=request.timeout,
            preview=request.preview,
            ignore_changes=tuple(request.ignoreChanges),
        )
        return provider_pb2.UpdateResponse(properties=encode(state))

    @_told
    def Read(self, request: Any, context: Any) -> Any:
        found = self._resources.read(
            request.urn, request.id, decode(request.properties), decode(request.inputs)
        )
        if found is None:
            return provider_pb2.ReadResponse(id="")
        state, inputs = found
        return provider_pb2.ReadResponse(
            id=request.id, properties=encode(state), inputs=encode(inputs)
        )

    @_told
    def Delete(self, request: Any, context: Any) -> Any:
        self._resources.delete(
            request.urn,
            request.id,
            decode(request.properties),
            _old_inputs(request, state=request.properties),
            timeout=request.timeout,
        )
        return Empty()

    def Cancel(self, request: Any, context: Any) -> Any:
        self.cancelled.set()
        return Empty()


def _old_inputs(request: Any, state: Any = None) -> Object:
    if request.HasField("old_inputs") and len(request.old_inputs.fields):
        return decode(request.old_inputs)
    kept = decode(request.olds if state is None else state).get("__inputs")
    return kept if isinstance(kept, dict) else {}


def _changed(found: list[Any]) -> Any:
    response = provider_pb2.DiffResponse
    return response.DIFF_SOME if found else response.DIFF_NONE


def _property_diff(change: Change, replaces: bool) -> Any:
    kind: Any = _KINDS[f"{change.kind}+replace" if replaces else change.kind]
    return provider_pb2.PropertyDiff(kind=kind, inputDiff=True)


def _engine_log(address: str) -> Callable[..., None]:
    """Sends lines to the engine, which shows them beside the resource."""
    if not address:
        return lambda level, urn, message, status=False: print(message, file=sys.stderr)
    stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address))
    levels = {
        "info": engine_pb2.INFO,
        "warning": engine_pb2.WARNING,
        "error": engine_pb2.ERROR,
    }

    def log(level: str, urn: str, message: str, status: bool = False) -> None:
        request = engine_pb2.LogRequest(
            severity=levels[level], urn=urn, message=message, ephemeral=status
        )
        try:
            stub.Log(request, timeout=5)
        except grpc.RpcError:  # the engine is gone; there is nobody left to tell
            return

    return log


def serve(engine_address: str) -> None:
    """Answer the engine at `engine_address` until it ends or asks to stop."""
    engine = os.getppid()
    servicer = Servicer(_engine_log(engine_address))
    done = threading.Event()
    # SIGINT is how the engine ends a plugin. Ctrl-C is not meant: plugins have a process group of
    # their own and are told by Cancel.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: done.set())
    # Operations wait for the cluster most of the time, so threads may outnumber cores.
    pool = ThreadPoolExecutor(max_workers=64, thread_name_prefix="resource")
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(pool, options=options)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    # A plugin must not outlive its engine.
    while not done.wait(0.5) and os.getppid() == engine:
        pass
    servicer.cancelled.set()
    server.stop(grace=2).wait()
