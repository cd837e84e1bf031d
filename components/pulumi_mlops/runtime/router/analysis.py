"""Analysis of the first requests of a version: whether too many of them fail.

The share of responses with a 5xx status is estimated by its Wilson interval. A version without
enough requests is inconclusive, never passed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from .haproxy import service_of

_Z = 1.96  # a confidence of 95 %
_RESPONSES = ("hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other")


@dataclass(frozen=True)
class Analysis:
    """The limits of an analysis. `seconds` is its length; 0 turns it off."""

    seconds: float
    min_requests: int
    max_error_rate: float


@dataclass(frozen=True)
class ResponseCounts:
    """Responses of a version, and those of them with a 5xx status."""

    requests: int = 0
    errors: int = 0

    def since(self, earlier: ResponseCounts) -> ResponseCounts:
        """The responses since `earlier`. All of them if the counters were reset in between."""
        if self.requests < earlier.requests or self.errors < earlier.errors:
            return self
        return ResponseCounts(self.requests - earlier.requests, self.errors - earlier.errors)

    def __add__(self, other: ResponseCounts) -> ResponseCounts:
        return ResponseCounts(self.requests + other.requests, self.errors + other.errors)


class Verdict(Enum):
    """The result of an analysis. UNDECIDED: more requests are needed and may still come."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    UNDECIDED = "undecided"


def verdict(counts: ResponseCounts, limits: Analysis, *, ended: bool) -> Verdict:
    """The verdict about a version. `ended` says that the time of the analysis is over.

    It is early if the interval of the error rate is on one side of the limit.
    """
    if counts.requests < limits.min_requests:
        return Verdict.INCONCLUSIVE if ended else Verdict.UNDECIDED
    low, high = wilson(counts)
    if low > limits.max_error_rate:
        return Verdict.FAILED
    if high <= limits.max_error_rate:
        return Verdict.PASSED
    if not ended:
        return Verdict.UNDECIDED
    rate = counts.errors / counts.requests
    return Verdict.FAILED if rate > limits.max_error_rate else Verdict.PASSED


def wilson(counts: ResponseCounts) -> tuple[float, float]:
    """The Wilson interval of the error rate (E. B. Wilson, 1927). Requires a request."""
    n, rate = counts.requests, counts.errors / counts.requests
    center = (rate + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return max(0.0, center - half), min(1.0, center + half)


def counts_of(
    stat: Mapping[str, Mapping[str, str]], services: Iterable[str]
) -> dict[str, ResponseCounts]:
    """The responses of each service, from HAProxy's statistics of its servers by name."""
    found = dict.fromkeys(services, ResponseCounts())
    for server, row in stat.items():
        if (service := service_of(server)) in found:
            requests = sum(int(row.get(column) or 0) for column in _RESPONSES)
            found[service] += ResponseCounts(requests, int(row.get("hrsp_5xx") or 0))
    return found


class Watch:
    """The analysis of the services in `baseline`, which has their responses so far."""

    def __init__(self, limits: Analysis, baseline: Mapping[str, ResponseCounts]) -> None:
        self._limits = limits
        self._last = dict(baseline)
        self.counts = {name: ResponseCounts() for name in baseline}
        """The responses during the analysis."""

    def observe(self, counts: Mapping[str, ResponseCounts]) -> None:
        """Add what came since the previous observation."""
        for name, previous in self._last.items():
            self.counts[name] += counts[name].since(previous)
        self._last |= {name: counts[name] for name in self._last}

    def verdicts(self, *, ended: bool) -> dict[str, Verdict]:
        """The verdict about each service."""
        return {
            name: verdict(counts, self._limits, ended=ended) for name, counts in self.counts.items()
        }
