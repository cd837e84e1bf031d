"""The first requests of services that a change of a route adds: too many errors undo the change.

The services are model servers, and their own metrics count the responses."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from threading import Event
from typing import Any

import httpx

from ....plugin.errors import ResourceError
from ....plugin.handler import Context
from ....runtime.router.analysis import (
    IDLE_SECONDS,
    Analysis,
    ResponseCounts,
    Verdict,
    Watch,
    counts_of,
    is_idle,
)
from ....runtime.router.haproxy import ProxyBackend
from ....runtime.router.haproxy_socket import CommandRefused, RuntimeSocket
from ....runtime.router.planning import Gate
from .router import RouteDefinition, Router

_POLL_SECONDS = 0.5
_METRICS_SECONDS = 2.0
_UNDO_SECONDS = 10.0  # a user who has interrupted does not wait longer


def new_services(after: Mapping[str, ProxyBackend], served: Collection[str]) -> list[str]:
    """The services that get requests, without those that had a weight in an applied table."""
    return [name for name, backend in after.items() if backend.weight and name not in served]


def analyzed_change(
    ctx: Context,
    route: Router,
    previous: RouteDefinition,
    definition: RouteDefinition,
    *,
    names: Collection[str],
    limits: Analysis,
) -> dict[str, Any]:
    """Change a route and analyze the services `names`; the outputs of the route.

    The previous servers stay in the proxy until the verdict. Raises ResourceError after too many
    errors and after an interrupt; the previous weights are then in effect again.
    """
    services = {name: definition.services[name] for name in names}
    first = FirstRequests(ctx, route.runtime_socket, previous.endpoint, services, limits)
    try:
        route.change(_with_idle(definition, previous))
        first.wait()
    except ResourceError as error:
        raise ResourceError(f"{error}\n{_undo(ctx, route, previous, definition)}") from None
    return route.change(definition)


def _undo(
    ctx: Context, route: Router, previous: RouteDefinition, definition: RouteDefinition
) -> str:
    """Restore the weights of `previous`, also after an interrupt. Returns the result in words."""
    uncancelled = Router(replace(ctx, cancelled=Event(), timeout=_UNDO_SECONDS), ctx.name)
    try:
        uncancelled.change(_with_idle(previous, definition), Gate.EACH_BACKEND)
    except ResourceError as error:
        return f"the previous weights could not be restored: {error}"
    try:
        route.change(previous, Gate.EACH_BACKEND)
    except ResourceError as error:
        ctx.log(f"unused servers stay in the proxy until the next update: {error}")
    return "the previous weights are in effect again"


def _with_idle(definition: RouteDefinition, source: RouteDefinition) -> RouteDefinition:
    """`definition`, and with weight 0 the services that only `source` has."""
    idle = {name: replace(backend, weight=0) for name, backend in source.services.items()}
    return replace(definition, services={**idle, **definition.services})


class FirstRequests:
    """The analysis of services, from its creation, before they get requests, to `wait`."""

    def __init__(
        self,
        ctx: Context,
        socket: RuntimeSocket,
        endpoint: str,
        services: Mapping[str, ProxyBackend],
        limits: Analysis,
    ) -> None:
        self._ctx, self._endpoint, self._services = ctx, endpoint, services
        self._limits = limits
        self._idle = _is_idle(socket, endpoint)
        self._watch = Watch(limits, self._counts())

    def wait(self) -> None:
        """Wait for the verdicts. An idle endpoint has its verdicts at once.

        A service without enough requests is a warning. Raises ResourceError with the counts for a
        service with too many errors, and if the user interrupts.
        """
        deadline = time.monotonic() + (0 if self._idle else self._limits.seconds)
        while True:
            ended = time.monotonic() >= deadline
            self._watch.observe(self._counts())
            verdicts = self._watch.verdicts(ended=ended)
            if failed := [name for name, each in verdicts.items() if each is Verdict.FAILED]:
                raise ResourceError(self._failure(failed[0]))
            if Verdict.UNDECIDED not in verdicts.values():
                break
            self._show_status()
            if self._ctx.cancelled.wait(_POLL_SECONDS):
                raise ResourceError("interrupted while the first requests were analyzed")
        for name, each in verdicts.items():
            if each is Verdict.INCONCLUSIVE:
                self._ctx.log(self._inconclusive(name), level="warning")

    def _counts(self) -> dict[str, dict[str, ResponseCounts]]:
        """The counts of the servers that answer, from their own metrics."""
        found: dict[str, dict[str, ResponseCounts]] = {name: {} for name in self._services}
        with httpx.Client(trust_env=False, timeout=_METRICS_SECONDS) as client:
            for name, backend in self._services.items():
                for address in backend.addresses:
                    with contextlib.suppress(httpx.HTTPError):
                        answer = client.get(f"http://{address}/metrics").raise_for_status()
                        found[name][address] = counts_of(answer.text)
        return found

    def _failure(self, name: str) -> str:
        counts, limit = self._watch.counts[name], self._limits.max_error_rate
        return (
            f"{name} answered {counts.errors} of its first {counts.requests} requests with a 5xx "
            f"status, and {limit:.1%} are allowed (input analysis). See the log of {name}"
        )

    def _inconclusive(self, name: str) -> str:
        if self._idle:
            return (
                f"{self._endpoint} got no request in the last {IDLE_SECONDS} s: the errors of "
                f"{name} were not analyzed (input analysis). Watch its error rate"
            )
        counts, limits = self._watch.counts[name], self._limits
        return (
            f"{name} got {counts.requests} requests in {limits.seconds:g} s, and "
            f"{limits.min_requests} are required to analyze it (input analysis): its errors were "
            "not analyzed. Watch its error rate"
        )

    def _show_status(self) -> None:
        texts = [
            f"{name}: {counts.requests} requests, {counts.errors} errors"
            for name, counts in self._watch.counts.items()
        ]
        self._ctx.log(f"first requests of {'; '.join(texts)}", status=True)


def _is_idle(socket: RuntimeSocket, endpoint: str) -> bool:
    try:
        return is_idle(socket.stat(endpoint))
    except (OSError, CommandRefused):  # it does not run, so no request can have arrived
        return True
