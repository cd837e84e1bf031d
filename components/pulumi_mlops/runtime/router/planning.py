"""Plans the commands that bring a running HAProxy to the desired servers. Pure functions.

A plan is made from one observation and carried out command by command; then HAProxy is observed
again. A plan without commands means that HAProxy has the desired state. Properties:

- A new server has weight 0 until its check passed.
- A service that receives requests keeps its previous servers until the desired ones are checked.
- An undesired server is drained first and deleted when it has no requests in flight.
- The weights of the servers of a service, summed, are in proportion to the traffic table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from .haproxy import ProxyBackend, ProxyServer, backend_servers, server_weights, service_of
from .haproxy_socket import LiveServer


@dataclass(frozen=True)
class Add:
    """Add a server with weight 0 and check it."""

    server: ProxyServer


@dataclass(frozen=True)
class Revive:
    """Return a server that drains or is in maintenance to service, with weight 0."""

    name: str


@dataclass(frozen=True)
class SetWeights:
    """Change the weights of servers in one step."""

    before: Mapping[str, int]
    after: Mapping[str, int]


@dataclass(frozen=True)
class Drain:
    """Send a server no new requests."""

    name: str


@dataclass(frozen=True)
class Delete:
    """Delete a drained server."""

    name: str
    close_connections: bool


Command = Add | Revive | SetWeights | Drain | Delete
LiveServers = Mapping[str, LiveServer]


class Gate(Enum):
    """Which checks must pass before desired backends receive requests."""

    ALL_SERVERS = "all servers"
    """Each server of the weighted backends, except one that HAProxy already knows to be down."""
    EACH_BACKEND = "each backend"
    """At least one server of each weighted backend."""
    OPEN = "open"
    """None: the backends receive requests already. Each new server still needs its own check."""


@dataclass(frozen=True)
class Readiness:
    """Which servers of the weighted backends have not passed their check."""

    unserved: tuple[str, ...]
    """Weighted backends without a server that passed."""
    failing: tuple[ProxyServer, ...]

    def passes(self, gate: Gate) -> bool:
        """Whether the backends may receive requests."""
        if gate is Gate.OPEN:
            return True
        return not self.unserved and (gate is Gate.EACH_BACKEND or not self.failing)


def readiness(backends: Mapping[str, ProxyBackend], live: LiveServers) -> Readiness:
    """The readiness of desired backends."""
    unserved: list[str] = []
    failing: list[ProxyServer] = []
    for name, backend in sorted(backends.items()):
        if not backend.weight:
            continue
        servers = backend_servers({name: backend})
        not_up = [server for server in servers if not _is_up(live.get(server.name))]
        if len(not_up) == len(servers):
            unserved.append(name)
            failing += not_up
        else:
            failing += [each for each in not_up if not _is_known_down(live.get(each.name))]
    return Readiness(tuple(unserved), tuple(failing))


def target_weights(
    backends: Mapping[str, ProxyBackend], live: LiveServers, admit_failed: bool = False
) -> dict[str, int]:
    """HAProxy's weight of each server that may receive requests now, by name.

    A server is admitted once its check passed and stays so when it fails later: HAProxy itself
    sends no requests to a server that is down. With `admit_failed`, servers whose check failed are
    admitted as well. Undesired servers of a weighted backend keep their part until the desired ones
    serve (see `_held`), so that capacity does not fall.
    """
    names = {
        service: [server.name for server in backend_servers({service: backend})]
        for service, backend in backends.items()
    }
    members = {
        service: [name for name in names[service] if _is_admitted(live.get(name), admit_failed)]
        for service in backends
    }
    for service, held in _held(backends, names, members, live).items():
        members[service] += held
    counts = {
        service: (backends[service].weight, len(servers))
        for service, servers in members.items()
        if servers
    }
    weights: Mapping[str, int] = dict.fromkeys(counts, 0)
    if any(weight for weight, _ in counts.values()):
        weights, _ = server_weights(counts)
    return {name: weights[service] for service, servers in members.items() for name in servers}


def _held(
    backends: Mapping[str, ProxyBackend],
    names: Mapping[str, Sequence[str]],
    admitted: Mapping[str, Sequence[str]],
    live: LiveServers,
) -> dict[str, list[str]]:
    """The undesired servers that keep their part of the requests, by service.

    A weighted service keeps them while one of its desired servers waits for its first check, and
    while none of these is up. If no desired server of any service is up, all services keep them.
    Without any desired server, none is kept.
    """
    weighted = [service for service, backend in backends.items() if backend.weight]
    served = {s for s in weighted if any(_is_up(live.get(name)) for name in admitted[s])}
    expected = any(names[service] for service in weighted)
    held = {}
    for service in weighted:
        waits = any(
            name not in admitted[service] and not (name in live and live[name].down)
            for name in names[service]
        )
        unserved = service not in served and bool(names[service])
        if waits or unserved or (expected and not served):
            held[service] = [
                name
                for name, server in live.items()
                if service_of(name) == service
                and name not in names[service]
                and server.in_service
                and server.weight
                and not server.down
            ]
    return held


def plan(
    backends: Mapping[str, ProxyBackend] | None,
    candidates: Iterable[ProxyServer],
    live: LiveServers,
    *,
    busy: Collection[str] = (),
    overdue: Collection[str] = (),
    admit_failed: bool = False,
) -> list[Command]:
    """The commands for one observation, in order.

    `backends` receive requests; without any, the weights stay and no server is drained.
    `candidates` are checked and have weight 0 unless they belong to `backends`. `busy` are the
    servers with requests in flight, `overdue` those whose time limit for draining has passed.
    """
    desired = {server.name: server for server in candidates}
    desired |= {server.name: server for server in backend_servers(backends or {})}
    added: list[Command] = [
        Add(server) for name, server in sorted(desired.items()) if name not in live
    ]
    revived = [name for name in sorted(desired) if name in live and not live[name].in_service]
    commands: list[Command] = [*added, *(Revive(name) for name in revived)]
    if backends is None:
        return commands
    weights = target_weights(backends, live, admit_failed)
    kept = desired.keys() | weights.keys()
    before = {name: 0 if name in revived else each.weight for name, each in live.items()}
    after = {name: weights.get(name, 0) for name in live}
    if after != before:
        commands.append(SetWeights(before, after))
    return commands + removal(sorted(live.keys() - kept), live, busy=busy, overdue=overdue)


def removal(
    names: Iterable[str], live: LiveServers, *, busy: Collection[str], overdue: Collection[str]
) -> list[Command]:
    """The commands that drain and delete servers. A server is never deleted before it drained."""
    commands: list[Command] = []
    for name in names:
        if name in live and live[name].in_service:
            commands.append(Drain(name))
        elif name in live and (name not in busy or name in overdue):
            commands.append(Delete(name, close_connections=name in overdue))
    return commands


def _is_up(server: LiveServer | None) -> bool:
    return server is not None and server.in_service and server.up


def _is_known_down(server: LiveServer | None) -> bool:
    return server is not None and server.in_service and server.down and server.weight > 0


def _is_admitted(server: LiveServer | None, admit_failed: bool) -> bool:
    if server is None or not server.in_service:
        return False
    return server.up or server.weight > 0 or (admit_failed and server.down)
