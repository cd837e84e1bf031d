"""The first requests of services that a change of a route adds: too many errors undo the change."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from threading import Event
from typing import Any

from ....plugin.errors import ResourceError
from ....plugin.handler import Context
from ....runtime.router.analysis import Analysis, Counts, Verdict, Watch, counts_of
from ....runtime.router.haproxy import ProxyBackend
from ....runtime.router.haproxy_socket import CommandRefused, RuntimeSocket
from ....runtime.router.planning import Gate
from .router import RouteDefinition, Router

_POLL_SECONDS = 0.2
_UNDO_SECONDS = 10.0  # a user who has interrupted does not wait longer


def new_services(
    before: Mapping[str, ProxyBackend], after: Mapping[str, ProxyBackend], analyzed: Collection[str]
) -> list[str]:
    """The services whose weight a change sets, and that have not passed an analysis yet."""
    return [
        name
        for name, backend in after.items()
        if backend.weight
        and name not in analyzed
        and (name not in before or before[name].weight != backend.weight)
    ]


def analyzed_change(
    ctx: Context,
    route: Router,
    previous: RouteDefinition,
    definition: RouteDefinition,
    *,
    names: Collection[str],
    limits: Analysis,
) -> tuple[dict[str, Any], set[str]]:
    """Change a route and analyze `names`; its outputs, and the services that passed.

    The previous servers stay in the proxy until the verdict. Raises ResourceError after too many
    errors and after an interrupt; the previous weights are then in effect again.
    """
    first = FirstRequests(ctx, route.runtime_socket, previous.endpoint, names, limits)
    try:
        route.change(_with_idle(definition, previous))
        passed = first.wait()
    except ResourceError as error:
        raise ResourceError(f"{error}\n{_undo(ctx, route, previous, definition)}") from None
    return route.change(definition), passed


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
        services: Collection[str],
        limits: Analysis,
    ) -> None:
        self._ctx, self._socket, self._endpoint = ctx, socket, endpoint
        self._limits = limits
        self._watch = Watch(limits, self._counts(services))

    def wait(self) -> set[str]:
        """Wait for the verdicts. Returns the services that passed.

        A service without enough requests is a warning. Raises ResourceError with the counts for a
        service with too many errors, and if the user interrupts.
        """
        deadline = time.monotonic() + self._limits.seconds
        while True:
            ended = time.monotonic() >= deadline
            self._watch.observe(self._counts(self._watch.counts))
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
        return {name for name, each in verdicts.items() if each is Verdict.PASSED}

    def _counts(self, services: Collection[str]) -> dict[str, Counts]:
        try:
            return counts_of(self._socket.stat(self._endpoint), services)
        except (OSError, CommandRefused):  # it is being restarted, and counts from 0 again
            return dict.fromkeys(services, Counts())

    def _failure(self, name: str) -> str:
        counts, limit = self._watch.counts[name], self._limits.max_error_rate
        return (
            f"{name} answered {counts.errors} of its first {counts.requests} requests with a 5xx "
            f"status, and {limit:.1%} are allowed (input analysis). See the log of {name}"
        )

    def _inconclusive(self, name: str) -> str:
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
