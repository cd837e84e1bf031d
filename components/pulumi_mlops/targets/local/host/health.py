"""Health checks: requests to a program that find out whether it is ready."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from ....plugin.errors import ResourceError

if TYPE_CHECKING:  # it imports pydantic, which the command line does not need
    from ....plugin.handler import Context


_REPORT_SECONDS = 15.0
"""A status line is repeated in this interval, with the elapsed time."""


@dataclass(frozen=True)
class HealthCheck:
    """HTTP `path` must answer 200. Without a path, the TCP port must accept a connection."""

    port: int
    path: str | None = None


class Failed(Exception):
    """The program reports that it will not become ready."""


def probe(check: HealthCheck, timeout: float = 5.0) -> str | None:
    """None if ready, otherwise the reason. Raises Failed if the program will not become ready."""
    if check.path is None:
        try:
            with socket.create_connection(("127.0.0.1", check.port), timeout):
                return None
        except OSError as error:
            return f"port {check.port}: {error.strerror or error}"
    url = f"http://127.0.0.1:{check.port}{check.path}"
    try:
        # Requests to loopback must not use a proxy of the environment variables.
        answer = httpx.get(url, timeout=timeout, trust_env=False)
    except httpx.HTTPError as error:
        return f"{check.path}: {type(error).__name__}"
    if answer.status_code != httpx.codes.OK:
        body: Any = None
        with contextlib.suppress(json.JSONDecodeError):
            body = answer.json()
        if isinstance(body, dict) and body.get("error"):
            if body.get("failed"):
                raise Failed(str(body["error"]))
            return str(body["error"])
        return f"{check.path} answers {answer.status_code}"
    return None


def wait(
    ctx: Context,
    checks: Mapping[str, HealthCheck],
    timeout: float,
    crashed: Callable[[], str | None],
) -> None:
    """Wait until every check passes. `crashed` returns a reason to stop waiting, or None.

    Raises ResourceError with the reason after `timeout` seconds, after a crash, for a program that
    will not become ready, and if the user interrupts.
    """
    deadline = time.monotonic() + timeout
    pending = dict(checks)
    pause = 0.05
    reported = ""
    started = reported_at = time.monotonic()
    while pending:
        name, check = next(iter(pending.items()))
        try:
            reason = probe(check)
        except Failed as error:
            raise ResourceError(f"{name} will not become ready: {error}") from None
        if reason is None:
            del pending[name]
            if reported and not pending:
                # Replaces the status line "waiting for", which would otherwise stay.
                ctx.log("ready", status=True)
            continue
        if ctx.cancelled.is_set():
            raise ResourceError(f"interrupted while waiting for {name}")
        if (crash := crashed()) is not None:
            raise ResourceError(f"{name} does not stay up: {crash}")
        if time.monotonic() > deadline:
            raise ResourceError(f"{name} is not ready after {timeout:g} s: {reason}")
        now = time.monotonic()
        if reason != reported or now - reported_at >= _REPORT_SECONDS:
            # Only a terminal shows how long an operation takes.
            ctx.log(f"waiting for {name} ({now - started:.0f} s): {reason}", status=True)
            reported, reported_at = reason, now
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
