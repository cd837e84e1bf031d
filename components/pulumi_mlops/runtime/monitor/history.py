"""The history of a target: increases of counters, limited in time and number."""

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from .exposition import Labels, Sample
from .rates import counter_increase

WINDOW_SECONDS = 30 * 60.0
MAX_POINTS = 1800
MAX_SERIES = 4000

RECORDED_COUNTERS = frozenset(
    {
        "mlops_inference_requests_total",
        "mlops_inference_duration_seconds_bucket",
        "mlops_predictions_total",
        "mlops_prediction_log_written_total",
        "mlops_prediction_log_dropped_total",
        "mlops_prediction_log_flush_failures_total",
        "haproxy_backend_http_responses_total",
    }
)
"""The counters that the status document needs. Only these have a history."""


def window_for(interval: float) -> float:
    """Seconds of history at a scrape interval: 30 minutes, less for intervals under one second."""
    return min(WINDOW_SECONDS, MAX_POINTS * interval)


@dataclass
class Series:
    """The times and amounts of the increases of one counter. Other scrapes are not stored."""

    name: str
    labels: dict[str, str]
    last: float
    seen: float
    times: "array[float]" = field(default_factory=lambda: array("d"))
    values: "array[float]" = field(default_factory=lambda: array("d"))

    def forget(self, before: float) -> None:
        """Remove the increases up to the time `before`."""
        count = bisect_right(self.times, before)
        del self.times[:count]
        del self.values[:count]


class Budget:
    """The limit on the number of series of all targets."""

    def __init__(self, limit: int = MAX_SERIES) -> None:
        self.limit = limit
        self.used = 0
        self.refused = 0
        """Series of the latest scrapes beyond the limit; see :meth:`TargetHistory.record`."""

    def reserve(self) -> bool:
        """Count one more series; False if the limit is reached."""
        if self.used >= self.limit:
            return False
        self.used += 1
        return True


class TargetHistory:
    """The counters of one target. Times are monotonic seconds in ascending order."""

    def __init__(self, window: float, budget: Budget) -> None:
        self.window = window
        self.budget = budget
        self.times: array[float] = array("d")
        self.series: dict[tuple[str, Labels], Series] = {}
        self._refused = 0
        self._overflowed = False
        self._pruned = -math.inf

    def record(self, now: float, samples: Iterable[Sample]) -> None:
        """Add a successful scrape.

        A series that appears after the first scrape of the target started from zero, so its whole
        value counts: the first error of a kind is not lost. A series of the first scrape started
        earlier, so only later increases count.
        """
        from_zero = bool(self.times) and not self._overflowed
        refused = 0
        for sample in samples:
            if sample.name not in RECORDED_COUNTERS or not math.isfinite(sample.value):
                continue
            key = (sample.name, sample.key)
            series = self.series.get(key)
            if series is None:
                if not self.budget.reserve():
                    refused += 1
                    continue
                start = 0.0 if from_zero else sample.value
                series = self.series[key] = Series(sample.name, sample.labels, start, now)
            increase = counter_increase(series.last, sample.value)
            if increase > 0:
                series.times.append(now)
                series.values.append(increase)
            series.last, series.seen = sample.value, now
        self.times.append(now)
        self._overflowed = self._overflowed or refused > 0
        self.budget.refused += refused - self._refused
        self._refused = refused
        if now - self._pruned > self.window / 30:
            self._prune(now)

    def close(self) -> None:
        """Release the series from the budget. The history must not be used afterwards."""
        self.budget.used -= len(self.series)
        self.budget.refused -= self._refused
        self.series.clear()

    def _prune(self, now: float) -> None:
        self._pruned = now
        before = now - self.window
        # Keep the last scrape before the window: the first increase accumulated since then.
        del self.times[: max(bisect_right(self.times, before) - 1, 0)]
        for key, series in list(self.series.items()):
            if series.seen < before:
                del self.series[key]
                self.budget.used -= 1
            else:
                series.forget(before)
