"""The status document: the data of the dashboard, returned by ``GET /api/status``.

Times are unix seconds, durations seconds, shares and ratios 0 to 1, rates per second over the last
``window_seconds``. ``null`` always means "unknown": a rate without data, a ratio or latency without
traffic (no requests means ``requests_per_second: 0`` with ``error_ratio: null``)::

    {"stack": "dev", "time": 1795387000.0, "interval_seconds": 5.0, "window_seconds": 60.0,
     "history_seconds": 1800.0,
     "state": "ok" | "attention" | "waiting" | "stale", "summary": "tracking-server is down",
     "stale": false,              true after 3 intervals without progress
     "last_round": 1795386999.0,  end of the last scrape of all targets
     "series": {"kept": 312, "limit": 4000, "refused": 0},
     "services": [
       {"job": "tracking", "instance": "tracking-server", "labels": {},
        "state": "up" | "degraded" | "down" | "unknown",   degraded: healthy, metrics unreadable
        "since": 1795386000.0,    not before the start of the monitor
        "last_success": 1795386999.0, "latency_seconds": 0.004, "error": null | "health: ...",
        "metrics": true}],        whether it has a metrics URL
     "endpoints": [
       {"endpoint": "penguins", "requests_per_second": 12.5, "error_ratio": 0.0,
        "route": null | {"requests_per_second": 12.5, "error_ratio": 0.0},   counted by the proxy,
                                                  including requests that reached no server
        "versions": [
          {"version": "4", "model": "penguins", "role": "live", "in_progress": 0.0,
           "requests_per_second": 11.2, "error_ratio": 0.0, "client_error_ratio": 0.01,
           "latency_seconds": {"p50": 0.003, "p95": 0.009, "highest_bound": 10.0},
           "share_seen": 0.9, "share_configured": 0.9,
           "servers": null | {"up": 2, "total": 2},
           "classes": [{"class": "Adelie", "count": 812.0, "share": 0.44}],   whole history
           "history": {"step_seconds": 30.0, "requests_per_second": [null, 10.9, ...],
                       "error_ratio": [...], "p95_seconds": [...]}}]}],      oldest first
     "prediction_logs": [
       {"endpoint": "penguins", "version": "4", "written_total": 5120.0, "dropped_total": 0.0,
        "written_per_second": 11.2, "dropped_recently": 0.0,
        "waiting": 12.0,          rows in the queue
        "failures_recently": 0.0}],   failed writes, which are retried
     "quality": [                     of endpoints that declare it, in their last final window
       {"endpoint": "penguins", "version": "4", "coverage": 0.9, "drift_ratio": null | 0.0,
        "window_end": 1795386000.0,
        "metrics": {"accuracy": {"value": 0.97, "low": 0.95, "high": 0.98}}}]}

``error_ratio`` counts responses with status 500 and above, ``client_error_ratio`` those with 400 to
499. A latency equal to ``highest_bound`` means "at least this". ``*_total`` count from the start of
the servers, ``*_recently`` over ``history_seconds``.
"""

import math
from dataclasses import dataclass
from typing import Any

from . import quality
from .history import MAX_SERIES
from .model import EndpointTraffic, Group, Version, collect
from .rates import ratio
from .watcher import Watched, Watcher

STEPS = 60
MAX_NAMED = 2


def build(watcher: Watcher) -> dict[str, Any]:
    """The current status document."""
    interval = watcher.config.interval
    spans = Spans(
        now=watcher.clock(),
        window=max(60.0, 4 * interval),
        history=watcher.window,
        step=max(watcher.window / STEPS, 2 * interval),
    )
    traffic = collect(watcher.watched)
    services = [_service(watched) for watched in watcher.watched]
    state, summary = _summary(watcher, services)
    return {
        "stack": watcher.config.stack,
        "time": watcher.wall(),
        "interval_seconds": interval,
        "window_seconds": spans.window,
        "history_seconds": spans.history,
        "state": state,
        "summary": summary,
        "stale": watcher.stale,
        "last_round": watcher.last_round,
        "series": {
            "kept": watcher.budget.used,
            "limit": MAX_SERIES,
            "refused": watcher.budget.refused,
        },
        "services": services,
        "endpoints": [
            _endpoint(name, endpoint, spans) for name, endpoint in sorted(traffic.endpoints.items())
        ],
        "quality": quality.collect(watcher.watched),
        "prediction_logs": [
            {
                "endpoint": endpoint,
                "version": version,
                "written_total": logs.written.last_total(),
                "dropped_total": logs.dropped.last_total(),
                "written_per_second": logs.written.per_second(*spans.recent),
                "dropped_recently": logs.dropped.increase(*spans.full),
                "waiting": logs.waiting,
                "failures_recently": logs.failures.increase(*spans.full),
            }
            for (endpoint, version), logs in sorted(
                traffic.logs.items(), key=lambda item: (item[0][0], _newest_first(item[0][1]))
            )
        ],
    }


def _service(watched: Watched) -> dict[str, Any]:
    result = watched.result
    return {
        "job": watched.target.job,
        "instance": watched.target.instance,
        "labels": dict(watched.target.labels),
        "state": watched.state,
        "since": watched.since,
        "last_success": watched.last_success,
        "latency_seconds": result.latency_seconds if result else None,
        "error": result.error if result else None,
        "metrics": watched.target.url is not None,
    }


def _summary(watcher: Watcher, services: list[dict[str, Any]]) -> tuple[str, str]:
    if watcher.stale:
        return "stale", "The figures are stale: the scrape loop is not running"
    count = len(services)
    if not count:
        return "ok", "No services to monitor"
    parts = []
    for state in ("down", "degraded"):
        bad = [service["instance"] for service in services if service["state"] == state]
        if len(bad) > MAX_NAMED:
            parts.append(f"{len(bad)} of {count} services are {state}")
        elif bad:
            parts.append(f"{' and '.join(bad)} {'is' if len(bad) == 1 else 'are'} {state}")
    if parts:
        return "attention", ", ".join(parts)
    waiting = sum(service["state"] == "unknown" for service in services)
    if waiting:
        return "waiting", f"Waiting for the first scrape of {waiting} of {count} services"
    return "ok", "The service is up" if count == 1 else f"All {count} services are up"


@dataclass(frozen=True)
class Spans:
    """The time spans of the figures, in monotonic seconds."""

    now: float
    window: float
    history: float
    step: float

    @property
    def recent(self) -> tuple[float, float]:
        """The span of the current figures."""
        return self.now - self.window, self.now

    @property
    def full(self) -> tuple[float, float]:
        """The span of the whole history."""
        return self.now - self.history, self.now

    @property
    def steps(self) -> list[tuple[float, float]]:
        """The steps of a sparkline, aligned to multiples of the step to avoid flicker."""
        last = math.ceil(self.now / self.step)
        count = round(self.history / self.step)
        return [((i - 1) * self.step, i * self.step) for i in range(last - count + 1, last + 1)]


def _endpoint(name: str, endpoint: EndpointTraffic, spans: Spans) -> dict[str, Any]:
    rows = endpoint.versions
    all_requests = Group.join(row.requests for row in rows.values())
    total = sum(row.requests.increase(*spans.recent) for row in rows.values())
    weights = [row.weight for row in rows.values()]
    return {
        "endpoint": name,
        **_rate_and_errors(all_requests, spans),
        "route": _rate_and_errors(endpoint.route, spans) if endpoint.route.has_series else None,
        "versions": [
            _version(version, rows[version], total, weights, spans)
            for version in sorted(rows, key=_newest_first)
        ],
    }


def _role(row: Version, max_weight: float) -> str | None:
    """`live` for the endpoint's largest weight, `canary` for a smaller weight, `warm` for 0."""
    if not row.servers or not max_weight:
        return None
    return "live" if row.weight == max_weight else "canary" if row.weight else "warm"


def _version(
    version: str, row: Version, total: float, weights: list[float], spans: Spans
) -> dict[str, Any]:
    requests, recent = row.requests, spans.recent
    server_errors, client_errors = _with_code(requests, "5"), _with_code(requests, "4")
    reported = requests.per_second(*recent) is not None
    return {
        "version": version,
        "model": row.model,
        "role": _role(row, max(weights)),
        "in_progress": row.in_progress,
        "requests_per_second": requests.per_second(*recent),
        "error_ratio": _ratio(server_errors, requests, recent),
        "client_error_ratio": _ratio(client_errors, requests, recent),
        "latency_seconds": {
            "p50": row.durations.quantile(0.5, *recent),
            "p95": row.durations.quantile(0.95, *recent),
            "highest_bound": row.durations.highest_bound(),
        },
        "share_seen": ratio(requests.increase(*recent), total) if reported else None,
        "share_configured": ratio(row.weight, sum(weights)) if row.servers else None,
        "servers": {
            "up": sum(server.state == "UP" for server in row.servers),
            "total": len(row.servers),
        }
        if row.servers
        else None,
        "classes": row.classes.shares("class", *spans.full),
        "history": {
            "step_seconds": spans.step,
            "requests_per_second": [requests.per_second(*span) for span in spans.steps],
            "error_ratio": [_ratio(server_errors, requests, span) for span in spans.steps],
            "p95_seconds": [row.durations.quantile(0.95, *span) for span in spans.steps],
        },
    }


def _rate_and_errors(requests: Group, spans: Spans) -> dict[str, float | None]:
    return {
        "requests_per_second": requests.per_second(*spans.recent),
        "error_ratio": _ratio(_with_code(requests, "5"), requests, spans.recent),
    }


def _with_code(requests: Group, digit: str) -> Group:
    """The responses of a status class. Model servers report "503", HAProxy "5xx"."""
    return requests.where(lambda labels: labels.get("code", "").startswith(digit))


def _ratio(part: Group, whole: Group, span: tuple[float, float]) -> float | None:
    return ratio(part.increase(*span), whole.increase(*span))


def _newest_first(version: str) -> tuple[int, int, str]:
    """Sort key: numeric versions first, newest first, then others by name."""
    return (0, -int(version), "") if version.isdecimal() else (1, 0, version)
