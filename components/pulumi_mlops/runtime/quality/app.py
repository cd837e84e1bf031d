"""The HTTP interface of the quality service.

====================================  ==========================================================
``POST /endpoints/{name}/labels``     labels as JSON or CSV, see
                                      :mod:`~pulumi_mlops.runtime.quality.labels`
``GET /endpoints/{name}/quality``     windows with their metrics; ``?limit=24`` for each version
``GET /endpoints/{name}/drift``       drift of the last tested window of each version
``GET /endpoints``                    the endpoints and their settings
``GET /metrics``                      metrics for Prometheus
``GET /health``                       200 if the database answers, else 503; errors of passes
====================================  ==========================================================
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pulumi_mlops.runtime.quality import exposition, results
from pulumi_mlops.runtime.quality.labels import LabelError, parse
from pulumi_mlops.runtime.quality.service import QualityService
from pulumi_mlops.runtime.quality.settings import MonitoredEndpoint

MAX_BODY_BYTES = 10 * 2**20
MAX_WINDOWS = 1000


def create(service: QualityService) -> Starlette:
    """Create the application. Its lifespan runs the passes."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.start()
        yield
        await asyncio.to_thread(service.stop)

    async def endpoints(_: Request) -> Response:
        found = service.settings.endpoints
        return JSONResponse({name: asdict(each) for name, each in found.items()})

    async def receive_labels(request: Request) -> Response:
        endpoint = _endpoint(service, request)
        body = await _body(request)
        try:
            items = parse(body, request.headers.get("content-type", ""))
        except LabelError as error:
            raise HTTPException(400, str(error)) from None
        received = await asyncio.to_thread(service.accept, endpoint, items)
        only_invalid = received.outcomes["invalid"] == sum(received.outcomes.values()) > 0
        return JSONResponse(received.to_json(), status_code=422 if only_invalid else 200)

    async def quality(request: Request) -> Response:
        endpoint = _endpoint(service, request)
        limit = request.query_params.get("limit", "24")
        if not limit.isdecimal() or not 1 <= int(limit) <= MAX_WINDOWS:
            raise HTTPException(400, f"limit: must be 1 to {MAX_WINDOWS}")
        delay = service.delay(endpoint)
        return JSONResponse(await _read(service, results.quality, endpoint, delay, int(limit)))

    async def drift(request: Request) -> Response:
        return JSONResponse(await _read(service, results.drift, _endpoint(service, request)))

    async def metrics(_: Request) -> Response:
        text = await asyncio.to_thread(_exposed, service)
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})

    async def health(_: Request) -> Response:
        # Labels are accepted while passes fail. Failed passes are in the metrics.
        try:
            await _read(service, lambda connection: connection.execute(sa.select(1)))
        except sa.exc.SQLAlchemyError as error:
            problem = f"the database does not answer: {type(error).__name__}"
            return JSONResponse({"status": "unavailable", "error": problem}, status_code=503)
        content = {
            "status": "stale" if service.stale else "ok",
            "stale": service.stale,
            "last_success": service.last_success,
            "errors": dict(service.errors),
        }
        return JSONResponse(content)

    return Starlette(
        routes=[
            Route("/endpoints", endpoints),
            Route("/endpoints/{name}/labels", receive_labels, methods=["POST"]),
            Route("/endpoints/{name}/quality", quality),
            Route("/endpoints/{name}/drift", drift),
            Route("/metrics", metrics),
            Route("/health", health),
        ],
        exception_handlers={HTTPException: _error},
        lifespan=lifespan,
    )


async def _error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - the handler of that class
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


def _endpoint(service: QualityService, request: Request) -> MonitoredEndpoint:
    name = request.path_params["name"]
    endpoint = service.settings.endpoints.get(name)
    if endpoint is None:
        known = ", ".join(sorted(service.settings.endpoints))
        raise HTTPException(404, f"no endpoint {name!r} declares `quality`: there is {known}")
    return endpoint


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(
                413, f"more than {MAX_BODY_BYTES} bytes: send several requests, or put a file into "
                "the store"
            )  # fmt: skip
    return bytes(body)


async def _read(service: QualityService, function: Callable[..., Any], *arguments: Any) -> Any:
    def read() -> Any:
        with service.database.reading() as connection:
            return function(connection, *arguments)

    return await asyncio.to_thread(read)


def _exposed(service: QualityService) -> bytes:
    class Results(Collector):
        def collect(self) -> Any:
            delays = [(each, service.delay(each)) for each in service.settings.endpoints.values()]
            with service.database.reading() as connection:
                yield from exposition.families(connection, delays, service.last_success)

    registry = CollectorRegistry()
    registry.register(Results())
    return generate_latest(registry)
