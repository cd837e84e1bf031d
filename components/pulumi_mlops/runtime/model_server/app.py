"""The ASGI application: routes, health, and the hand-over of requests to their queue.

Plain ASGI without a framework: the routes are a handful of exact paths, and a framework's routing,
validation and response classes cost more than everything else here but the model itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from pulumi_mlops.runtime.model_names import header_value, path_segment
from pulumi_mlops.runtime.model_server import http
from pulumi_mlops.runtime.model_server.http import Receive, RequestError, Response, Scope, Send
from pulumi_mlops.runtime.model_server.metrics import CONTENT_TYPE, Metrics
from pulumi_mlops.runtime.model_server.request_queue import Limits, Overloaded, RequestQueue
from pulumi_mlops.runtime.model_server.settings import ModelServerSettings
from pulumi_mlops.runtime.prediction_log import PredictionLog

if TYPE_CHECKING:
    from pulumi_mlops.runtime.model_server.batching import Batcher
    from pulumi_mlops.runtime.model_server.inference import Answer, Inference, Prepared

logger = logging.getLogger(__name__)

SERVER_NAME = "pulumi-mlops"
Read = Callable[["Inference", bytes, str, str], "Prepared"]
MAX_QUEUED_BODIES = 8
"""The bytes that may wait for the model, in bodies of the largest size. Half as many may be in
bodies that are being received."""
MAX_UNREAD_BYTES = 65536
NOT_READY = 502
"""The status of requests before the model is loaded. The proxy sends them to another server, which
it must not do with 503, the answer of an overloaded server. Readiness paths answer 503."""


@dataclass(slots=True)
class State:
    """Whether the server is ready for requests, and the reason if not."""

    inference: Inference | None = None
    reason: str = "the model is being loaded"
    failed: bool = False
    """Whether the server can never become ready: the model failed to load."""
    draining: bool = False

    @property
    def ready(self) -> bool:
        """The model is loaded, the golden request succeeded, and the server is not stopping."""
        return self.inference is not None and not self.draining

    @property
    def why_not(self) -> str:
        """The reason for not being ready."""
        return "the server is stopping" if self.draining else self.reason


class App:
    """One model's endpoints; see the module's package for the protocols."""

    def __init__(
        self, settings: ModelServerSettings, metrics: Metrics, prediction_log: PredictionLog | None
    ) -> None:
        self.state = State()
        self._settings = settings
        self._metrics = metrics
        self._log = prediction_log
        # A thread of its own, so that health answers while a long prediction runs. Predicting in
        # the event loop instead, or a shorter sys.setswitchinterval, made no difference beyond
        # the noise (1 and 4 clients, 21 paired rounds).
        self._threads = ThreadPoolExecutor(settings.inference_threads, "inference")
        self._queue = RequestQueue(
            self._threads,
            settings.inference_threads,
            Limits(
                settings.max_queue,
                MAX_QUEUED_BODIES * settings.max_body_bytes,
                settings.queue_seconds,
                settings.max_delay_seconds,
            ),
            metrics,
        )
        metrics.queue_length.set_function(lambda: len(self._queue))
        self._batcher: Batcher | None = None
        self._model_headers = [
            (b"x-model-name", header_value(settings.model_name).encode()),
            (b"x-model-version", quote(settings.model_version, safe=" ").encode()),
        ]
        self._identity = {
            "model_name": settings.model_name,
            "model_version": settings.model_version,
        }
        # ASGI's paths are decoded, so they have the name itself.
        base = f"/v2/models/{settings.model_name}"
        self._gets: dict[str, Callable[[], Response]] = {
            "/v2": self._server_metadata,
            "/v2/health/live": lambda: _json({"live": True}),
            "/v2/health/ready": self._server_ready,
            "/ping": self._ping,
            "/health": self._ping,
            "/version": self._mlflow_version,
            "/metrics": lambda: Response(200, metrics.exposition(), CONTENT_TYPE),
        }
        self._posts: dict[str, Read] = {"/invocations": _invocations}
        for path in (base, f"{base}/versions/{settings.model_version}"):
            self._gets[path] = self._model_metadata
            self._gets[f"{path}/ready"] = self._model_ready
            self._posts[f"{path}/infer"] = _v2

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry point."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        call = self._posts.get(path)
        if call is not None and scope["method"] == "POST":
            await self._infer(call, scope, receive, send)
            return
        request_id = http.client_request_id(scope) or http.new_request_id()
        get = self._gets.get(path)
        if get is not None and scope["method"] in ("GET", "HEAD"):
            response = get()
        elif call is not None or get is not None:
            response = self._error(405, f"{scope['method']} is not allowed here", request_id, path)
        elif path.startswith("/v2/models/") and path.endswith("/ready"):
            # Whoever waits for another model or version waits in vain.
            response = _json({"error": self._what_is_served(path), "failed": True}, 404)
        else:
            response = self._error(404, self._what_is_served(path), request_id, path)
        await self._send(send, response, request_id)

    async def _infer(self, prepare: Read, scope: Scope, receive: Receive, send: Send) -> None:
        given_id = http.client_request_id(scope)
        request_id = given_id or http.new_request_id()
        arrived, started = time.time(), time.perf_counter()
        metrics = self._metrics
        metrics.in_progress.inc()
        answer = None
        try:
            # Draining still serves: the proxy may not have seen yet that this server is stopping.
            inference = self.state.inference
            if inference is None:
                raise RequestError(NOT_READY, f"not ready: {self.state.why_not}")
            if http.header(scope, b"inference-header-content-length"):
                raise RequestError(415, "V2's binary data is not supported; send 'data' as JSON")
            content_type = http.header(scope, b"content-type") or "application/json"
            limit = self._settings.max_body_bytes
            http.check_body(scope, limit)

            async def read(received: Callable[[int], None]) -> Callable[[Inference], Prepared]:
                body = await http.read_body(receive, limit, received)
                return lambda model: prepare(model, body, content_type, request_id)

            length = http.content_length(scope)
            answer = await self._queue.answer(self._runner(inference), read, length, receive)
            response = Response(200, answer.body)
            request_id = given_id or answer.id
        except http.ClientGone:
            return
        except Overloaded as error:
            response = self._overloaded(error, scope, request_id)
        except RequestError as error:
            body_id = error.request_id or request_id
            response = self._error(error.status, error.message, body_id, scope["path"])
            request_id = given_id or body_id
        except Exception:
            logger.exception("request %s failed", request_id)
            response = self._error(500, "internal error", request_id, scope["path"])
        finally:
            metrics.in_progress.dec()
        latency = time.perf_counter() - started
        metrics.duration.observe(latency)
        metrics.count_request(response.status)
        if answer is not None and inference is not None:
            # Before the response: what a client has seen is in the log.
            self._keep(inference, answer, arrived, latency)
        await self._send(send, response, request_id)

    def _runner(self, inference: Inference) -> Batcher:
        """The batcher of the loaded model."""
        if self._batcher is None or self._batcher.inference is not inference:
            # Its imports have happened with those of the model.
            from pulumi_mlops.runtime.model_server.batching import Batcher  # noqa: PLC0415

            self._batcher = Batcher(inference, self._settings.max_batch)
        return self._batcher

    def _overloaded(self, error: Overloaded, scope: Scope, request_id: str) -> Response:
        response = self._error(error.status, error.message, request_id, scope["path"])
        # The rest of a large body would have to be read before the next request.
        close = http.is_chunked(scope) or http.content_length(scope) > MAX_UNREAD_BYTES
        return replace(response, retry_after=error.retry_seconds, close=close)

    def _keep(self, inference: Inference, answer: Answer, arrived: float, latency: float) -> None:
        """Count and log a prediction. A failure must not reach the client."""
        try:
            self._metrics.count_classes(inference.classes(answer))
            if self._log is not None:
                self._log.add(inference.record(answer, arrived, latency))
        except Exception:
            logger.exception("request %s could not be logged", answer.id)

    async def _send(self, send: Send, response: Response, request_id: str) -> None:
        headers = [
            (b"content-type", response.content_type),
            (b"content-length", str(len(response.body)).encode()),
            (b"x-request-id", request_id.encode()),
            *self._model_headers,
        ]
        if response.retry_after:
            headers.append((b"retry-after", str(response.retry_after).encode()))
        if response.close or self.state.draining:
            # While draining, clients move to other connections before the listener closes.
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    def _error(self, status: int, message: str, request_id: str, path: str) -> Response:
        body: dict[str, Any]
        if path == "/invocations":  # MLflow's shape
            body = {"error_code": _mlflow_code(status), "message": message}
        else:
            body = {"error": message, **self._identity, "id": request_id}
        # After 413 the rest of the body is still on its way: the connection cannot be used again.
        return _json(body, status, close=status == 413)

    def _what_is_served(self, path: str) -> str:
        settings = self._settings
        served = (
            f"this server serves model '{settings.model_name}' version {settings.model_version}"
        )
        parts = path.split("/")
        if len(parts) > 3 and parts[1:3] == ["v2", "models"]:
            if parts[3] != settings.model_name:
                return f"model '{parts[3]}' is not served here; {served}"
            if len(parts) > 5 and parts[4] == "versions" and parts[5] != settings.model_version:
                return f"version {parts[5]} is not served here; {served}"
        path = f"/v2/models/{path_segment(settings.model_name)}/infer"
        return f"no such path; {served} at {path} and /invocations"

    def _server_metadata(self) -> Response:
        return _json({"name": SERVER_NAME, "version": _version("mlflow"), "extensions": []})

    def _server_ready(self) -> Response:
        ready = self.state.ready
        body: dict[str, Any] = {"ready": ready}
        if not ready:
            body["error"] = self.state.why_not
        return _json(body, 200 if ready else 503)

    def _model_ready(self) -> Response:
        settings = self._settings
        ready = self.state.ready
        body: dict[str, Any] = {
            "name": settings.model_name,
            "version": settings.model_version,
            "ready": ready,
        }
        if not ready:
            body |= {"error": self.state.why_not, "failed": self.state.failed}
        return _json(body, 200 if ready else 503)

    def _ping(self) -> Response:
        if self.state.ready:
            return Response(200, b"\n")
        return _json({"error": self.state.why_not}, 503)

    def _mlflow_version(self) -> Response:
        return Response(200, _version("mlflow").encode())

    def _model_metadata(self) -> Response:
        inference = self.state.inference
        settings = self._settings
        signature = inference.signature if inference else None

        def tensors(items: Any) -> list[dict[str, Any]]:
            return [{"name": i.name, "datatype": i.datatype, "shape": list(i.shape)} for i in items]

        if signature is None:
            return _json({"error": f"not ready: {self.state.why_not}", **self._identity}, NOT_READY)
        return _json(
            {
                "name": settings.model_name,
                "versions": [settings.model_version],
                "platform": "mlflow",
                "inputs": tensors(signature.inputs),
                "outputs": tensors(signature.outputs),
            }
        )

    def close(self) -> None:
        """Shut the inference threads down without waiting for a running prediction."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _v2(inference: Inference, body: bytes, _content_type: str, request_id: str) -> Prepared:
    return inference.prepare_v2(body, request_id)


def _invocations(inference: Inference, body: bytes, content_type: str, request_id: str) -> Prepared:
    return inference.prepare_invocations(body, content_type, request_id)


def _json(body: dict[str, Any], status: int = 200, *, close: bool = False) -> Response:
    return Response(status, orjson.dumps(body), close=close)


def _mlflow_code(status: int) -> str:
    if status in (NOT_READY, 503):
        return "TEMPORARILY_UNAVAILABLE"
    return "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST"


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return version(f"{distribution}-skinny")
