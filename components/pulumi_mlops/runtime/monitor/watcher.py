"""The scrape loop, its results and the monitor's own metrics."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .config import Config, ConfigError, ScrapeTarget, fingerprint, read_targets
from .discovery import resolve_targets
from .exposition import Family, Sample, merge, parse
from .history import MAX_SERIES, Budget, TargetHistory, window_for
from .scrape import ScrapeResult, new_client, scrape_target

log = logging.getLogger("mlops.monitor")
CONCURRENCY = 64
MISSED_INTERVALS = 3


@dataclass
class Watched:
    """A target, its latest result and its history."""

    target: ScrapeTarget
    history: TargetHistory
    result: ScrapeResult | None = None
    since: float | None = None
    """Unix time of the last change of the state, at the earliest the monitor's first scrape."""
    last_success: float | None = None
    """Unix time of the last scrape with the state ``up``."""

    @property
    def state(self) -> str:
        """``up``, ``degraded``, ``down``, or ``unknown`` before the first scrape."""
        return self.result.state if self.result else "unknown"

    @property
    def samples(self) -> list[Sample]:
        """The samples of the latest scrape; empty if it failed."""
        families = self.result.families if self.result else None
        return [sample for family in families or () for sample in family.samples]


class OwnMetrics:
    """The monitor's own metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["job", "instance"]
        self.up = Gauge(
            "up", "1 if the target is healthy: up or degraded.", labels, registry=self.registry
        )
        self.success = Gauge(
            "mlops_monitor_scrape_success",
            "1 if the health check and the metrics request succeeded.",
            labels,
            registry=self.registry,
        )
        self.duration = Histogram(
            "mlops_monitor_scrape_duration_seconds",
            "Duration of a scrape of a target.",
            labels,
            buckets=(0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.samples = Gauge(
            "mlops_monitor_scrape_samples",
            "Samples in the latest scrape.",
            labels,
            registry=self.registry,
        )
        self.last_success = Gauge(
            "mlops_monitor_last_success_timestamp_seconds",
            "Unix time at which the monitor last finished a scrape of all targets.",
            registry=self.registry,
        )
        self.series = Gauge("mlops_monitor_series", "Series in memory.", registry=self.registry)
        self.refused = Gauge(
            "mlops_monitor_series_refused",
            f"Series that were not recorded because the limit is {MAX_SERIES}.",
            registry=self.registry,
        )
        self.failures = Counter(
            "mlops_monitor_internal_errors",
            "Scrapes that failed with an error in the monitor itself.",
            registry=self.registry,
        )

    def forget(self, target: ScrapeTarget) -> None:
        """Remove the series of a target that is no longer scraped."""
        for metric in (self.up, self.success, self.duration, self.samples):
            with contextlib.suppress(KeyError):
                metric.remove(target.job, target.instance)

    def record(self, target: ScrapeTarget, result: ScrapeResult) -> None:
        """Record the result of a scrape."""
        labels = (target.job, target.instance)
        self.up.labels(*labels).set(result.state != "down")
        self.success.labels(*labels).set(result.state == "up")
        self.duration.labels(*labels).observe(result.duration_seconds)
        count = sum(len(family.samples) for family in result.families or ())
        self.samples.labels(*labels).set(count)


class Watcher:
    """Scrapes every target once per interval and keeps the results."""

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.clock = clock
        self.wall = wall
        self.window = window_for(config.interval)
        self.budget = Budget()
        self.metrics = OwnMetrics()
        self.watched: list[Watched] = []
        self._configured: Sequence[ScrapeTarget] = config.targets
        self.set_targets(config.targets)
        self._fingerprint = fingerprint(config.targets_dir) if config.targets_dir else ()
        self.last_round: float | None = None
        """Unix time at which the last scrape of all targets ended."""
        self.generation = 0
        """Increases with every result. Derived data is valid until it changes."""
        self._last_progress = clock()

    @property
    def targets(self) -> list[ScrapeTarget]:
        """The current targets."""
        return [watched.target for watched in self.watched]

    def set_targets(self, targets: Sequence[ScrapeTarget]) -> None:
        """Replace the targets. Those that stay keep their history."""
        known = {watched.target: watched for watched in self.watched}
        for target, watched in known.items():
            if target not in targets:
                watched.history.close()
                self.metrics.forget(target)
        self.watched = [
            known.get(target) or Watched(target, TargetHistory(self.window, self.budget))
            for target in targets
        ]

    def _reload_targets(self) -> None:
        folder = self.config.targets_dir
        if folder is None:
            return
        try:
            current = fingerprint(folder)
            if current != self._fingerprint:
                self._configured = read_targets(folder)
                self.set_targets(self._configured)
                self._fingerprint = current
        except (ConfigError, OSError) as error:
            # The files may be incomplete: the next round reads them again.
            log.warning("the targets are unchanged: %s", error)

    @property
    def seconds_since_progress(self) -> float:
        """Seconds since the last scrape ended."""
        return max(self.clock() - self._last_progress, 0.0)

    @property
    def stale(self) -> bool:
        """Whether the loop has made no progress for three intervals."""
        # One scrape may take up to `timeout`, which is longer than three short intervals.
        allowed = max(MISSED_INTERVALS * self.config.interval, self.timeout + 1.0)
        return self.seconds_since_progress > allowed

    @property
    def timeout(self) -> float:
        """Seconds that a target has to answer: 80 % of the interval, between 1 and 10."""
        return min(max(0.8 * self.config.interval, 1.0), 10.0)

    async def run(self) -> None:
        """Scrape until cancelled."""
        async with new_client() as client:
            slots = asyncio.Semaphore(CONCURRENCY)
            while True:
                started = self.clock()
                self._reload_targets()
                if (servers := await resolve_targets(self._configured)) != self.targets:
                    self.set_targets(servers)
                await asyncio.gather(*(self._scrape(client, slots, w) for w in self.watched))
                self.last_round = self.wall()
                self.metrics.last_success.set(self.last_round)
                self._last_progress = self.clock()
                await asyncio.sleep(
                    max(self.config.interval - (self._last_progress - started), 0.05)
                )

    async def _scrape(
        self, client: httpx.AsyncClient, slots: asyncio.Semaphore, watched: Watched
    ) -> None:
        async with slots:
            try:
                result = await scrape_target(client, watched.target, self.timeout)
                self.record(watched, result)
            except Exception:
                # An error with one target must not end the monitoring of the others.
                self.metrics.failures.inc()
                log.exception("cannot scrape %s/%s", watched.target.job, watched.target.instance)

    def record(self, watched: Watched, result: ScrapeResult) -> None:
        """Record the result of a scrape of a target."""
        now, wall = self.clock(), self.wall()
        if result.state != watched.state:
            watched.since = wall
            name = f"{watched.target.job}/{watched.target.instance}"
            log.info("%s is %s%s", name, result.state, f": {result.error}" if result.error else "")
        watched.result = result
        if result.state == "up":
            watched.last_success = wall
        if result.families is not None:
            watched.history.record(now, watched.samples)
        self.metrics.record(watched.target, result)
        self.metrics.series.set(self.budget.used)
        self.metrics.refused.set(self.budget.refused)
        self.generation += 1
        self._last_progress = now

    def own_metrics(self) -> bytes:
        """The monitor's own metrics in the text format."""
        return generate_latest(self.metrics.registry)

    def families(self) -> list[Family]:
        """The latest samples of all targets with their labels, and the monitor's own metrics."""
        own = parse(self.own_metrics().decode())
        instance = f"{self.config.host}:{self.config.port}"
        monitor = {"job": "monitor", "instance": instance}
        targets = {(w.target.job, w.target.instance): w.target.identity for w in self.watched}
        for family in own:
            for sample in family.samples:
                # Samples about a target get the labels of the target, others those of the monitor.
                key = (sample.labels.get("job", ""), sample.labels.get("instance", ""))
                sample.labels.update(targets.get(key, monitor))
        return merge(
            [({}, own)]
            + [(w.target.identity, w.result.families or ()) for w in self.watched if w.result]
        )
