"""Groups the scraped series by endpoint, model version and route.

The metrics are ``mlops_inference_*`` and ``mlops_prediction*`` of the model server and
``haproxy_*`` of HAProxy's exporter. There the proxy is named after its endpoint, and a server is
named ``v<version>-<n>``.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .exposition import Sample
from .history import Series, TargetHistory
from .rates import covered_seconds, histogram_quantile, ratio, window_sum
from .watcher import Watched

_SERVER = re.compile(r"v([^-]+)-.+")
GAUGES = (
    "mlops_model_info",
    "mlops_inference_in_progress",
    "mlops_prediction_log_queue_length",
)


class Group:
    """Series of any number of targets that are summed."""

    def __init__(self) -> None:
        self.sources: dict[int, TargetHistory] = {}
        self.series: dict[int, list[Series]] = defaultdict(list)

    def observe(self, history: TargetHistory) -> None:
        """Register a target of this group: without series its rate is 0, not unknown."""
        self.sources[id(history)] = history

    def add(self, history: TargetHistory, series: Series) -> None:
        """Add a series of a target."""
        self.observe(history)
        self.series[id(history)].append(series)

    @classmethod
    def join(cls, groups: Iterable["Group"]) -> "Group":
        """A group with all series of several groups."""
        joined = cls()
        for group in groups:
            joined.sources.update(group.sources)
            for source, series in group.series.items():
                joined.series[source].extend(series)
        return joined

    def where(self, keep: Callable[[Mapping[str, str]], bool]) -> "Group":
        """A group of the same targets with the series whose labels satisfy `keep`."""
        group = Group()
        group.sources = self.sources
        for source, series in self.series.items():
            group.series[source] = [one for one in series if keep(one.labels)]
        return group

    @property
    def has_series(self) -> bool:
        """Whether the group has any series."""
        return any(self.series.values())

    def _all(self) -> Iterable[Series]:
        return (one for series in self.series.values() for one in series)

    def increase(self, start: float, end: float) -> float:
        """The increase within ``(start, end]``."""
        return sum(window_sum(one.times, one.values, start, end) for one in self._all())

    def per_second(self, start: float, end: float) -> float | None:
        """The sum of the targets' rates; None if no target was scraped twice by ``end``."""
        total = None
        for source, history in self.sources.items():
            seconds = covered_seconds(history.times, start, end)
            if seconds is None:
                continue
            added = sum(window_sum(s.times, s.values, start, end) for s in self.series[source])
            total = (total or 0.0) + added / seconds
        return total

    def last_total(self) -> float:
        """The sum of the latest values of the counters."""
        return sum(one.last for one in self._all())

    def quantile(self, quantile: float, start: float, end: float) -> float | None:
        """A quantile (0 to 1) of a histogram's observations within ``(start, end]``."""
        buckets: dict[float, float] = defaultdict(float)
        for one in self._all():
            buckets[_bound(one)] += window_sum(one.times, one.values, start, end)
        return histogram_quantile(quantile, buckets)

    def highest_bound(self) -> float | None:
        """The histogram's highest finite bucket bound."""
        return max((b for b in map(_bound, self._all()) if math.isfinite(b)), default=None)

    def shares(self, label: str, start: float, end: float) -> list[dict[str, Any]]:
        """Count and share for each value of a label, largest first."""
        counts: dict[str, float] = defaultdict(float)
        for one in self._all():
            counts[one.labels.get(label, "")] += window_sum(one.times, one.values, start, end)
        total = sum(counts.values())
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [
            {label: value, "count": count, "share": ratio(count, total)}
            for value, count in ordered
            if count > 0
        ]


def _bound(series: Series) -> float:
    try:
        return float(series.labels.get("le", "nan"))
    except ValueError:
        return math.nan


@dataclass
class ServerTraffic:
    """A server of a route."""

    weight: float = 0.0
    state: str = ""
    """HAProxy's state: UP, DOWN, MAINT, DRAIN or NOLB."""


@dataclass
class Version:
    """One model version of an endpoint, over all its replicas."""

    model: str | None = None
    requests: Group = field(default_factory=Group)
    durations: Group = field(default_factory=Group)
    classes: Group = field(default_factory=Group)
    in_progress: float | None = None
    servers: list["ServerTraffic"] = field(default_factory=list)

    @property
    def weight(self) -> float:
        """The sum of the configured weights of all servers, also of those that are down."""
        return sum(server.weight for server in self.servers)


@dataclass
class EndpointTraffic:
    """The model versions of an endpoint and the counters of its route."""

    versions: dict[str, Version] = field(default_factory=lambda: defaultdict(Version))
    route: Group = field(default_factory=Group)


@dataclass
class Logs:
    """A prediction log's counters."""

    written: Group = field(default_factory=Group)
    dropped: Group = field(default_factory=Group)
    failures: Group = field(default_factory=Group)
    """Failed attempts to write a file. Each is retried."""
    waiting: float | None = None


@dataclass
class Traffic:
    """The series of all endpoints and prediction logs."""

    endpoints: dict[str, EndpointTraffic] = field(
        default_factory=lambda: defaultdict(EndpointTraffic)
    )
    logs: dict[tuple[str, str], Logs] = field(default_factory=lambda: defaultdict(Logs))


def collect(watched: Iterable[Watched]) -> Traffic:
    """Group the series of all targets."""
    traffic = Traffic()
    routes: list[tuple[TargetHistory, Series]] = []
    servers: dict[tuple[str, str], ServerTraffic] = defaultdict(ServerTraffic)
    for one in watched:
        for sample in one.samples:
            _add_gauge(traffic, servers, one.history, sample)
        for series in one.history.series.values():
            if series.name == "haproxy_backend_http_responses_total":
                routes.append((one.history, series))
            else:
                _add_counter(traffic, one.history, series)
    for (proxy, name), server in servers.items():
        # A server in MAINT was disabled, so its weight is not part of the traffic table.
        if (match := _SERVER.fullmatch(name)) and server.state != "MAINT":
            traffic.endpoints[proxy].versions[match[1]].servers.append(server)
    for history, series in routes:
        # HAProxy also reports internal proxies; endpoints are those with model versions.
        endpoint = traffic.endpoints.get(series.labels.get("proxy", ""))
        if endpoint is not None:
            endpoint.route.add(history, series)
    return traffic


def _add_gauge(
    traffic: Traffic,
    servers: dict[tuple[str, str], ServerTraffic],
    history: TargetHistory,
    sample: Sample,
) -> None:
    """Add a gauge of the latest scrape."""
    labels = sample.labels
    if sample.name == "haproxy_server_weight":
        servers[labels.get("proxy", ""), labels.get("server", "")].weight = sample.value
    elif sample.name == "haproxy_server_status" and sample.value == 1:
        servers[labels.get("proxy", ""), labels.get("server", "")].state = labels.get("state", "")
    elif sample.name in GAUGES:
        if "endpoint" not in labels or "version" not in labels:
            return
        row = _version_of(traffic, labels)
        for group in (row.requests, row.durations, row.classes):
            group.observe(history)
        if sample.name == "mlops_prediction_log_queue_length":
            log = traffic.logs[labels["endpoint"], labels["version"]]
            log.waiting = (log.waiting or 0.0) + sample.value
        elif sample.name == "mlops_inference_in_progress":
            row.in_progress = (row.in_progress or 0.0) + sample.value


def _version_of(traffic: Traffic, labels: Mapping[str, str]) -> Version:
    row = traffic.endpoints[labels["endpoint"]].versions[labels["version"]]
    row.model = labels.get("model") or row.model
    return row


def _add_counter(traffic: Traffic, history: TargetHistory, series: Series) -> None:
    labels = series.labels
    if "endpoint" not in labels or "version" not in labels:
        return
    row = _version_of(traffic, labels)
    key = labels["endpoint"], labels["version"]
    match series.name:
        case "mlops_inference_requests_total":
            row.requests.add(history, series)
        case "mlops_inference_duration_seconds_bucket":
            row.durations.add(history, series)
        case "mlops_predictions_total":
            row.classes.add(history, series)
        case "mlops_prediction_log_written_total":
            traffic.logs[key].written.add(history, series)
        case "mlops_prediction_log_dropped_total":
            traffic.logs[key].dropped.add(history, series)
        case "mlops_prediction_log_flush_failures_total":
            traffic.logs[key].failures.add(history, series)
