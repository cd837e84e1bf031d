"""The scrape loop and what it has learnt so far."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .config import Config, ConfigError, Target, read_targets, signature
from .discovery import each_server
from .exposition import Family, Sample, merge, parse
from .history import MAX_SERIES, Budget, TargetHistory, window_for
from .scrape import Result, look, new_client

log = logging.getLogger("mlops.monitor")
CONCURRENCY = 64
MISSED_INTERVALS = 3


@dataclass
class Watched:
    """A target, its latest result and its history."""

    target: Target
    history: TargetHistory
    result: Result | None = None
    since: float | None = None
    """Unix time since when the state is what it is; the monitor's first look at the earliest."""
    last_success: float | None = None
    """Unix time of the last look that found it up."""

    @property
    def state(self) -> str:
        """``up``, ``degraded``, ``down``, or ``unknown`` before the first look."""
        return self.result.state if self.result else "unknown"

    @property
    def samples(self) -> list[Sample]:
        """The samples of the latest look, none when it failed."""
        families = self.result.families if self.result else None
        return [sample for family in families or () for sample in family.samples]


class OwnMetrics:
    """What the monitor says about itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["job", "instance"]
        self.up = Gauge(
            "up", "1 if the target is healthy: up or degraded.", labels, registry=self.registry
        )
        self.success = Gauge(
            "mlops_monitor_scrape_success",
            "1 if everything that the target was asked for was answered.",
            labels,
            registry=self.registry,
        )
        self.duration = Histogram(
            "mlops_monitor_scrape_duration_seconds",
            "How long a look at a target took.",
            labels,
            buckets=(0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.samples = Gauge(
            "mlops_monitor_scrape_samples",
            "Samples in the latest answer.",
            labels,
            registry=self.registry,
        )
        self.last_success = Gauge(
            "mlops_monitor_last_success_timestamp_seconds",
            "Unix time at which the monitor last finished a round over all targets.",
            registry=self.registry,
        )
        self.series = Gauge(
            "mlops_monitor_series", "Series kept in memory.", registry=self.registry
        )
        self.refused = Gauge(
            "mlops_monitor_series_refused",
            f"Series that were not kept because {MAX_SERIES} are the limit.",
            registry=self.registry,
        )
        self.failures = Counter(
            "mlops_monitor_internal_errors",
            "Looks at a target that failed in the monitor itself.",
            registry=self.registry,
        )

    def forget(self, target: Target) -> None:
        """Take the series of a target that is watched no longer away."""
        for metric in (self.up, self.success, self.duration, self.samples):
            with contextlib.suppress(KeyError):
                metric.remove(target.job, target.instance)

    def record(self, target: Target, result: Result) -> None:
        """Note the result of a look at a target."""
        labels = (target.job, target.instance)
        self.up.labels(*labels).set(result.state != "down")
        self.success.labels(*labels).set(result.state == "up")
        self.duration.labels(*labels).observe(result.duration_seconds)
        count = sum(len(family.samples) for family in result.families or ())
        self.samples.labels(*labels).set(count)


class Watcher:
    """Looks at every target once an interval and remembers."""

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
        self._named: Sequence[Target] = config.targets
        self.follow(config.targets)
        self._read = signature(config.targets_dir) if config.targets_dir else ()
        self.last_round: float | None = None
        """Unix time at which the last round over all targets ended."""
        self.generation = 0
        """Grows with every result, so that what is derived can be kept until the next."""
        self._alive = clock()

    @property
    def targets(self) -> list[Target]:
        """What is watched now."""
        return [watched.target for watched in self.watched]

    def follow(self, targets: Sequence[Target]) -> None:
        """Watch these from now on; what is watched already keeps its history."""
        known = {watched.target: watched for watched in self.watched}
        for target, watched in known.items():
            if target not in targets:
                watched.history.close()
                self.metrics.forget(target)
        self.watched = [
            known.get(target) or Watched(target, TargetHistory(self.window, self.budget))
            for target in targets
        ]

    def _reread(self) -> None:
        folder = self.config.targets_dir
        if folder is None:
            return
        try:
            found = signature(folder)
            if found != self._read:
                self._named = read_targets(folder)
                self.follow(self._named)
                self._read = found
        except (ConfigError, OSError) as error:
            # Half a change: the next round sees the rest of it.
            log.warning("the targets stay as they were: %s", error)

    @property
    def seconds_since_alive(self) -> float:
        """Seconds since the loop last got something done."""
        return max(self.clock() - self._alive, 0.0)

    @property
    def stale(self) -> bool:
        """Whether the loop has not run for three intervals."""
        # A look may take up to `timeout`, so a short interval alone would be too strict.
        allowed = max(MISSED_INTERVALS * self.config.interval, self.timeout + 1.0)
        return self.seconds_since_alive > allowed

    @property
    def timeout(self) -> float:
        """Seconds that a target has to answer: most of the interval, between 1 and 10."""
        return min(max(0.8 * self.config.interval, 1.0), 10.0)

    async def run(self) -> None:
        """Scrape until cancelled."""
        async with new_client() as client:
            slots = asyncio.Semaphore(CONCURRENCY)
            while True:
                started = self.clock()
                self._reread()
                if (servers := await each_server(self._named)) != self.targets:
                    self.follow(servers)
                await asyncio.gather(*(self._watch(client, slots, w) for w in self.watched))
                self.last_round = self.wall()
                self.metrics.last_success.set(self.last_round)
                self._alive = self.clock()
                await asyncio.sleep(max(self.config.interval - (self._alive - started), 0.05))

    async def _watch(
        self, client: httpx.AsyncClient, slots: asyncio.Semaphore, watched: Watched
    ) -> None:
        async with slots:
            try:
                result = await look(client, watched.target, self.timeout)
                self.record(watched, result)
            except Exception:
                # One odd target must not end the monitoring of all others.
                self.metrics.failures.inc()
                log.exception("%s/%s", watched.target.job, watched.target.instance)

    def record(self, watched: Watched, result: Result) -> None:
        """Take in what a look at a target found."""
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
        self._alive = now

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
                # What is about a target carries that target's labels, the rest the monitor's.
                key = (sample.labels.get("job", ""), sample.labels.get("instance", ""))
                sample.labels.update(targets.get(key, monitor))
        return merge(
            [({}, own)]
            + [(w.target.identity, w.result.families or ()) for w in self.watched if w.result]
        )
