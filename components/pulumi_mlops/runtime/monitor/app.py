"""The HTTP interface of the monitor.

=================  =============================================================================
``/``              the dashboard; ``/fragment`` is the part that refreshes
``/api/status``    the same as JSON, see :mod:`~pulumi_mlops.runtime.monitor.status`
``/metrics``       the monitor's own metrics: ``up``, ``mlops_monitor_*``
``/federate``      the latest samples of all targets and the monitor's own, each with ``job`` and
                   ``instance``; scrape it with ``honor_labels: true``
``/sd``            the targets for Prometheus' ``http_sd_configs``; use either this or
                   ``/federate``, because both return the same series
``/health``        200 while the scrape loop runs, 503 after three intervals without progress
=================  =============================================================================
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import page, status
from .config import ScrapeTarget
from .exposition import CONTENT_TYPE, render
from .watcher import Watcher

STATIC = Path(__file__).parent / "static"


def create(watcher: Watcher) -> Starlette:
    """Create the application. Its lifespan runs the scrape loop."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        loop = asyncio.create_task(watcher.run())
        yield
        loop.cancel()
        with suppress(asyncio.CancelledError):
            await loop

    document = _cached_status(watcher)

    async def index(_: Request) -> Response:
        return HTMLResponse(page.document(document(), watcher.config.links))

    async def fragment(_: Request) -> Response:
        return HTMLResponse(page.fragment(document()))

    async def api_status(_: Request) -> Response:
        return JSONResponse(document())

    async def metrics(_: Request) -> Response:
        return Response(watcher.own_metrics(), media_type=CONTENT_TYPE)

    async def federate(_: Request) -> Response:
        # In a thread: rendering tens of thousands of samples would block the event loop.
        families = watcher.families()
        return Response(await asyncio.to_thread(render, families), media_type=CONTENT_TYPE)

    async def service_discovery(_: Request) -> Response:
        return JSONResponse([_discovered(t) for t in watcher.targets if t.url])

    async def health(_: Request) -> Response:
        seconds = round(watcher.seconds_since_progress, 1)
        return JSONResponse(
            {"status": "stale" if watcher.stale else "ok", "seconds_since_scrape": seconds},
            status_code=503 if watcher.stale else 200,
        )

    return Starlette(
        routes=[
            Route("/", index),
            Route("/fragment", fragment),
            Route("/api/status", api_status),
            Route("/metrics", metrics),
            Route("/federate", federate),
            Route("/sd", service_discovery),
            Route("/health", health),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(_Headers)],
        lifespan=lifespan,
    )


def _cached_status(watcher: Watcher) -> Any:
    """A function that returns the status document, computed at most once per result and second."""
    cached: tuple[tuple[int, int, bool], dict[str, Any]] | None = None

    def current() -> dict[str, Any]:
        nonlocal cached
        key = (watcher.generation, int(watcher.clock()), watcher.stale)
        if cached is None or cached[0] != key:
            cached = (key, status.build(watcher))
        return cached[1]

    return current


def _discovered(target: ScrapeTarget) -> dict[str, Any]:
    """The target in the format of https://prometheus.io/docs/prometheus/latest/http_sd/ ."""
    parts = urlsplit(target.url or "")
    query = parse_qs(parts.query, keep_blank_values=True)
    return {
        "targets": [parts.netloc],
        "labels": {
            "__scheme__": parts.scheme,
            "__metrics_path__": parts.path or "/",
            **{f"__param_{name}": values[0] for name, values in query.items()},
            **target.identity,
        },
    }


class _Headers:
    """Middleware that adds response headers: no caching, and no content from other origins."""

    HEADERS = (
        (b"cache-control", b"no-store"),
        (b"content-security-policy", page.CONTENT_SECURITY_POLICY.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    )

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers)
