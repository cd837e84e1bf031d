"""HAProxy as a weighted route: which servers stand for which shares, and its configuration.

The proxy's `backend` and `frontend` bear the endpoint's name, a server is called
`<service>-<eight hex digits>`. Source: HAProxy 2.8's configuration manual (docs.haproxy.org).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

MAX_WEIGHT = 256
"""The largest weight that HAProxy takes."""

CHECKS_FILE = "checks.map"
"""Server name to readiness path; beside the configuration, which names it by this name."""

DRAINING = "draining"
"""The key of CHECKS_FILE that is there while the proxy is about to end. No server is called so."""

# A failed check is repeated after 100 ms and the second failure takes the server out, so a replica
# that fails its readiness on purpose has 0.6 s to be left alone; one pass brings it back.
# A slow answer (5 s, `timeout check`) is not a failed one: a busy model server is still a good one.
SERVER_OPTIONS = "check inter 500ms fastinter 100ms downinter 500ms fall 2 rise 1"

# Idle connections of clients are kept for so long. Model servers must keep theirs longer.
KEEP_ALIVE_SECONDS = 60

# How long requests in flight may go on once HAProxy is told to end.
STOP_SECONDS = 10

# What a client gets from the proxy itself; the form is the V2 inference protocol's error object.
_ERRORS = {
    400: "the request is not valid HTTP",
    408: "the request did not arrive in time",
    500: "the route failed",
    502: "the model server sent no valid response",
    503: "no server of a version that gets requests is ready; try again",
    504: "the model server did not answer in time",
}


@dataclass(frozen=True)
class Service:
    """Servers that share `weight` percent of the requests among them."""

    weight: int
    addresses: tuple[str, ...]
    check_path: str


@dataclass(frozen=True)
class Server:
    """One server as HAProxy is to know it; `weight` is HAProxy's, 0 to 256."""

    name: str
    service: str
    address: str
    weight: int
    check_path: str


@dataclass(frozen=True)
class Settings:
    """What cannot change while HAProxy runs."""

    endpoint: str
    port: int
    metrics_port: int
    socket: str
    request_seconds: float
    host: str = "127.0.0.1"


def server_weights(services: Mapping[str, tuple[int, int]]) -> tuple[dict[str, int], float]:
    """The weight of each server of a service, from (percent, number of servers), and the error.

    HAProxy shares requests in proportion to whole weights of at most 256, so the smallest such
    weights that come closest to the percentages are taken; nearly always they meet them exactly.
    The error is the largest difference between a service's share and what was asked, in percent.
    """
    ratios = {
        name: Fraction(percent, count) for name, (percent, count) in services.items() if percent
    }
    largest = max(ratios.values())
    best: dict[str, int] = {}
    least = Fraction(1000)
    for top in range(1, MAX_WEIGHT + 1):
        tried = {name: max(1, round(ratio * top / largest)) for name, ratio in ratios.items()}
        total = sum(weight * services[name][1] for name, weight in tried.items())
        error = max(
            abs(Fraction(100 * weight * services[name][1], total) - services[name][0])
            for name, weight in tried.items()
        )
        if error < least:
            best, least = tried, error
        if not error:
            break
    return {name: best.get(name, 0) for name in services}, float(least)


def plan(services: Mapping[str, Service]) -> list[Server]:
    """The servers that stand for `services`, in a stable order."""
    weights, _ = server_weights(
        {name: (service.weight, len(service.addresses)) for name, service in services.items()}
    )
    return [
        Server(
            server_name(name, address, service.check_path),
            name,
            address,
            weights[name],
            service.check_path,
        )
        for name, service in sorted(services.items())
        for address in sorted(service.addresses)
    ]


def server_name(service: str, address: str, check_path: str) -> str:
    """A name that changes with what is asked of the server, and with nothing else.

    So a changed readiness path is a new server, which has to pass before the old one goes.
    """
    return f"{service}-{hashlib.sha256(f'{address}{check_path}'.encode()).hexdigest()[:8]}"


def render_config(settings: Settings, servers: Iterable[Server]) -> str:
    """The configuration file; run HAProxy in its folder, where CHECKS_FILE is as well."""
    seconds = f"{round(settings.request_seconds * 1000)}ms"
    errors = "\n".join(
        f"    http-error status {code} content-type application/json "
        f"""string '{{"error": "{text}"}}'"""
        for code, text in _ERRORS.items()
    )
    lines = "\n".join(
        f"    server {server.name} {server.address} weight {server.weight} {SERVER_OPTIONS}"
        for server in servers
    )
    # retry-on: inference is pure, so a POST may be sent again. An answer of 500 is the model's own
    # and would be the same again; a time-out is not worth three times the wait.
    # connection close: else a kept connection would be closed just when its next request comes.
    # tune.bufsize: a request that fits in is kept until it is answered, so that it can be resent.
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
    retry-on conn-failure empty-response junk-response 502 503 504
{errors}

frontend {settings.endpoint}
    bind {settings.host}:{settings.port}
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


def render_checks(servers: Iterable[Server]) -> str:
    """The content of CHECKS_FILE. HAProxy 2.8 has one check a backend; the map makes it each
    server's own."""
    return "".join(f"{server.name} {server.check_path}\n" for server in servers)
