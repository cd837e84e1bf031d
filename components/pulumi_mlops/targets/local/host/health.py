"""When a program counts as ready: asked from outside, as its callers will ask it."""

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

if TYPE_CHECKING:  # pydantic, which the command line does without
    from ....plugin.handler import Context


@dataclass(frozen=True)
class Check:
    """HTTP `path` must answer 200; without a path an open TCP port is enough."""

    port: int
    path: str | None = None


class Failed(Exception):
    """The program itself said that it will not become ready."""


def probe(check: Check, timeout: float = 5.0) -> str | None:
    """None when ready, else what is missing. Raises Failed when waiting is of no use."""
    if check.path is None:
        try:
            with socket.create_connection(("127.0.0.1", check.port), timeout):
                return None
        except OSError as error:
            return f"port {check.port}: {error.strerror or error}"
    url = f"http://127.0.0.1:{check.port}{check.path}"
    try:
        # No proxies from the environment: this is our own loopback.
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
    checks: Mapping[str, Check],
    timeout: float,
    crashed: Callable[[], str | None],
) -> None:
    """Return when every check passes; `crashed` says why there is no use in waiting longer.

    Raises ResourceError with the reason when `timeout` seconds pass, a program gives up, or the
    user interrupts.
    """
    deadline = time.monotonic() + timeout
    left = dict(checks)
    pause = 0.05
    told = ""
    while left:
        name, check = next(iter(left.items()))
        try:
            missing = probe(check)
        except Failed as error:
            raise ResourceError(f"{name} will not become ready: {error}") from None
        if missing is None:
            del left[name]
            if told and not left:
                # Else the line that it waits stays beside a resource that is done.
                ctx.log("ready", status=True)
            continue
        if ctx.cancelled.is_set():
            raise ResourceError(f"interrupted while waiting for {name}")
        if (reason := crashed()) is not None:
            raise ResourceError(f"{name} does not stay up: {reason}")
        if time.monotonic() > deadline:
            raise ResourceError(f"{name} is not ready after {timeout:g} s: {missing}")
        if missing != told:
            ctx.log(f"waiting for {name}: {missing}", status=True)
            told = missing
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
