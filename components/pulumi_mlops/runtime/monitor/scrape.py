"""One scrape of one target: its health check and its metrics."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Literal, TypeVar

import httpx

from .config import ScrapeTarget
from .exposition import Family, ParseError, parse

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_SAMPLES = 20_000
T = TypeVar("T")
State = Literal["up", "degraded", "down"]


class ScrapeError(Exception):
    """A health check or a request for metrics failed. The message is shown on the dashboard."""


@dataclass(frozen=True)
class ScrapeResult:
    """The result of a scrape.

    ``state`` is ``up``, ``down``, or ``degraded`` if the target is healthy and its metrics cannot
    be read. ``latency_seconds`` is the time of the health check, or that of the metrics request
    for a target without one. ``families`` is None if no metrics were read.
    """

    state: State
    duration_seconds: float
    latency_seconds: float | None = None
    error: str | None = None
    families: list[Family] | None = None


def new_client() -> httpx.AsyncClient:
    """A client that follows no redirects and ignores proxies of the environment variables."""
    return httpx.AsyncClient(
        follow_redirects=False,
        trust_env=False,
        # No keep-alive: a server whose idle timeout is about one interval (5 s is common) would
        # close a connection just when it is reused, and the service would be reported as down.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        headers={
            "User-Agent": "pulumi-mlops-monitor",
            "Connection": "close",
            "Accept": "text/plain;version=0.0.4,*/*;q=0.1",
            # One chunk of a compressed body could exceed the size limit.
            "Accept-Encoding": "identity",
        },
    )


async def scrape_target(
    client: httpx.AsyncClient, target: ScrapeTarget, timeout: float
) -> ScrapeResult:
    """Check the health and read the metrics of a target, both within ``timeout`` seconds."""
    started = time.perf_counter()
    health, metrics = await asyncio.gather(
        _attempt(_health(client, target.health_url, timeout)),
        _attempt(_metrics(client, target.url, timeout)),
    )
    duration = time.perf_counter() - started
    # Keep the metrics of an unhealthy server: while it drains it still answers requests.
    families = metrics[1] if isinstance(metrics, tuple) else None
    if isinstance(health, ScrapeError):
        return ScrapeResult("down", duration, None, f"health: {health}", families)
    if isinstance(metrics, ScrapeError):
        state: State = "down" if health is None else "degraded"
        return ScrapeResult(state, duration, health, f"metrics: {metrics}")
    latency = health if health is not None else metrics[0] if metrics else None
    return ScrapeResult("up", duration, latency, None, families)


async def _attempt(work: Awaitable[T]) -> T | ScrapeError:
    try:
        return await work
    except ScrapeError as error:
        return error


async def _health(client: httpx.AsyncClient, url: str | None, timeout: float) -> float | None:
    return (await _get(client, url, timeout)).seconds if url else None


async def _metrics(
    client: httpx.AsyncClient, url: str | None, timeout: float
) -> tuple[float, list[Family]] | None:
    if not url:
        return None
    answer = await _get(client, url, timeout)
    if "openmetrics" in answer.content_type:
        raise ScrapeError("answered in the OpenMetrics format; text format 0.0.4 was requested")
    lines = sum(not line.startswith(b"#") for line in answer.body.splitlines())
    if lines > MAX_SAMPLES:
        raise ScrapeError(f"more than {MAX_SAMPLES:,} samples; expose fewer label values")
    try:
        # In a thread: at about 20,000 samples a second, the parser would block other scrapes.
        families = await asyncio.to_thread(parse, answer.body.decode("utf-8"))
    except UnicodeDecodeError:
        raise ScrapeError("not Prometheus text format: not UTF-8") from None
    except ParseError as error:
        raise ScrapeError(str(error)) from None
    return answer.seconds, families


@dataclass(frozen=True)
class _Answer:
    seconds: float
    body: bytes
    content_type: str


async def _get(client: httpx.AsyncClient, url: str, timeout: float) -> _Answer:
    """The response if its status is 2xx. Raises :class:`ScrapeError` otherwise."""
    started = time.perf_counter()
    try:
        # The timeout of httpx applies to each read; a slow body also needs a limit for the whole.
        async with (
            asyncio.timeout(timeout),
            client.stream("GET", url, timeout=timeout) as response,
        ):
            if response.is_redirect:
                raise ScrapeError(f"answered {response.status_code}; redirects are not followed")
            if not response.is_success:
                raise ScrapeError(f"answered {response.status_code} {response.reason_phrase}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise ScrapeError(
                    "answered with a compressed body; `Accept-Encoding: identity` was requested"
                )
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise ScrapeError(f"the response has more than {MAX_BODY_BYTES >> 20} MiB")
            content_type = response.headers.get("content-type", "")
            return _Answer(time.perf_counter() - started, bytes(body), content_type)
    except (TimeoutError, httpx.TimeoutException):
        raise ScrapeError(f"no answer within {timeout:g} s") from None
    except httpx.ConnectError:
        raise ScrapeError("connection refused or host not found") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ScrapeError(f"{type(error).__name__}: {error}"[:120]) from None
