"""HAProxy as the proxy of a route: the weights of its servers, and its configuration file.

The HAProxy `frontend` and `backend` have the endpoint's name. A server's name is
`<service>-<eight hex digits>`. Source: HAProxy 2.8 configuration manual (docs.haproxy.org).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

MAX_WEIGHT = 256
"""HAProxy's largest server weight."""

CHECKS_FILE = "checks.map"
"""File name of the map from server name to readiness path. It is in the configuration's folder."""

DRAINING = "draining"
"""Key of CHECKS_FILE that exists while the proxy shuts down. No server has this name."""

# A failed check is repeated after 100 ms. The second failure marks the server down, at most 0.6 s
# after its readiness failed. The first passed check marks it up.
# `timeout check` is 5 s, because a busy model server may answer its readiness path late.
# maxconn: more than the queue of a model server, which refuses requests itself.
SERVER_OPTIONS = "check inter 500ms fastinter 100ms downinter 500ms fall 2 rise 1 maxconn 1024"

# Timeout of idle client connections. The model servers' keep-alive timeout must be longer.
KEEP_ALIVE_SECONDS = 60

# Time limit for requests in flight after HAProxy received the signal to stop.
STOP_SECONDS = 10

# Error responses of the proxy itself, as error objects of the V2 inference protocol.
_ERRORS = {
    400: "the request is not valid HTTP",
    408: "the request did not arrive in time",
    500: "the route failed",
    502: "the model server sent no valid response",
    503: "no server of a version that gets requests is ready; try again",
    504: "the model server did not answer in time",
}


@dataclass(frozen=True)
class ProxyBackend:
    """A service behind the route. Its servers share `weight` percent of the requests."""

    weight: int
    addresses: tuple[str, ...]
    check_path: str


@dataclass(frozen=True)
class ProxyServer:
    """One server of HAProxy. `weight` is HAProxy's weight, 0 to 256."""

    name: str
    service: str
    address: str
    weight: int
    check_path: str


@dataclass(frozen=True)
class ProxySettings:
    """Settings that need a restart of HAProxy when they change."""

    endpoint: str
    port: int
    metrics_port: int
    socket: str
    request_seconds: float
    host: str = "127.0.0.1"


def server_weights(services: Mapping[str, tuple[int, int]]) -> tuple[dict[str, int], float]:
    """The weight of each server of a service, from (percent, number of servers), and the error.

    HAProxy distributes requests in proportion to integer weights of at most 256. The result has the
    smallest weights that come closest to the percentages; nearly always they are exact. The error
    is the largest difference between the share of a service and its percentage. The percentages
    are relative to their sum. At least one of them must be positive.
    """
    names = sorted(services)
    weights, error = _smallest_weights(tuple(services[name] for name in names))
    return dict(zip(names, weights, strict=True)), error


@lru_cache(maxsize=256)  # the reconciler asks for the same few at each step
def _smallest_weights(services: tuple[tuple[int, int], ...]) -> tuple[tuple[int, ...], float]:
    percent_sum = sum(percent for percent, _ in services)
    ratios = [Fraction(percent, count) for percent, count in services]
    shares = [Fraction(100 * percent, percent_sum) for percent, _ in services]
    largest = max(ratios)
    best: tuple[int, ...] = ()
    best_error = Fraction(1000)
    for top in range(1, MAX_WEIGHT + 1):
        tried = tuple(ratio and max(1, round(ratio * top / largest)) for ratio in ratios)
        total = sum(weight * count for weight, (_, count) in zip(tried, services, strict=True))
        error = max(
            abs(Fraction(100 * weight * count, total) - share)
            for weight, (_, count), share in zip(tried, services, shares, strict=True)
        )
        if error < best_error:
            best, best_error = tuple(map(int, tried)), error
        if not error:
            break
    return best, float(best_error)


def backend_servers(backends: Mapping[str, ProxyBackend]) -> list[ProxyServer]:
    """All servers of `backends` with their final weights, in a stable order."""
    counts = {
        name: (backend.weight, len(backend.addresses))
        for name, backend in backends.items()
        if backend.addresses
    }
    weights = server_weights(counts)[0] if any(weight for weight, _ in counts.values()) else {}
    return [
        ProxyServer(
            server_name(name, address, backend.check_path),
            name,
            address,
            weights.get(name, 0),
            backend.check_path,
        )
        for name, backend in sorted(backends.items())
        for address in sorted(backend.addresses)
    ]


def server_name(service: str, address: str, check_path: str) -> str:
    """The name of a server, derived from everything that cannot change while it exists.

    With another readiness path it is a new server, which has to pass its check before the previous
    server is drained.
    """
    return f"{service}-{hashlib.sha256(f'{address}{check_path}'.encode()).hexdigest()[:8]}"


def service_of(server: str) -> str:
    """The service that a server's name begins with."""
    return server.rpartition("-")[0]


def render_config(
    settings: ProxySettings, servers: Iterable[ProxyServer], listen: str | None = None
) -> str:
    """The configuration file. HAProxy must run in its folder, which also contains CHECKS_FILE.

    `listen` is the address of the endpoint's listener in HAProxy's notation, for example `fd@3`
    for an inherited socket. Default: the host and port of `settings`.
    """
    seconds = f"{round(settings.request_seconds * 1000)}ms"
    errors = "\n".join(
        f"    http-error status {code} content-type application/json "
        f"""{"hdr retry-after 1 " if code == 503 else ""}string '{{"error": "{text}"}}'"""
        for code, text in _ERRORS.items()
    )
    lines = "\n".join(
        f"    server {server.name} {server.address} weight {server.weight} {SERVER_OPTIONS}"
        for server in servers
    )
    # Local routes restart HAProxy when this text changes, so an upgrade should not change it.
    # retry-on: inference has no side effects, so HAProxy may send a POST again. It does not retry
    # after 500, which the model would answer again, nor after a timeout, nor after 503, which an
    # overloaded server would answer six times. A server that is loading its model answers 502.
    # abortonclose: a request ends when its client leaves, also in the queue of the model server.
    # connection close: without it, HAProxy could close an idle connection at the moment when the
    # client sends the next request.
    # tune.bufsize: HAProxy can resend requests up to this size.
    return f"""\
global
    log stdout format raw daemon notice
    stats socket {settings.socket} mode 600 level admin
    nbthread 1
    fd-hard-limit 8192
    tune.bufsize 131072
    hard-stop-after {STOP_SECONDS}s

defaults
    mode http
    log global
    option dontlog-normal
    timeout connect 250ms
    timeout client {seconds}
    timeout server {seconds}
    timeout http-request 30s
    timeout http-keep-alive {KEEP_ALIVE_SECONDS}s
    timeout queue 10s
    timeout check 5s
    retries 5
    option redispatch 1
    retry-on conn-failure empty-response junk-response 502 504
    option abortonclose
{errors}

frontend {settings.endpoint}
    bind {listen or f"{settings.host}:{settings.port}"}
    http-request set-header x-forwarded-for %[src]
    http-request set-header x-forwarded-proto http
    http-request set-header x-forwarded-host %[req.hdr(host)]
    http-request set-header x-forwarded-port %[dst_port]
    http-after-response set-header connection close if {{ str({DRAINING}),map_str({CHECKS_FILE}) -m found }}
    default_backend {settings.endpoint}

frontend _metrics
    bind {settings.host}:{settings.metrics_port}
    http-request use-service prometheus-exporter if {{ path /metrics }}
    stats enable
    stats uri /stats

backend {settings.endpoint}
    balance roundrobin
    http-reuse safe
    option httpchk
    http-check send meth GET uri-lf "%[srv_name,map_str({CHECKS_FILE},/)]" ver HTTP/1.1 hdr host localhost
    http-check expect status 200
    http-response set-header x-served-by %[srv_name]
{lines}
"""  # noqa: E501 - HAProxy's lines do not break


def render_checks(servers: Iterable[ProxyServer]) -> str:
    """The content of CHECKS_FILE.

    HAProxy 2.8 has one check per backend. The map gives each server its own path.
    """
    return "".join(f"{server.name} {server.check_path}\n" for server in servers)
