"""Analysis of the first requests of a version: whether too many of them fail.

The share of responses with a 5xx status is estimated by its Wilson interval. Responses that refuse
overload (503, 504) are left out: they say nothing about the version. A version without enough
requests is inconclusive, never passed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

_Z = 1.96  # a confidence of 95 %
IDLE_SECONDS = 60
"""An endpoint without a request for so long has no requests to analyze."""
_RESPONSES = re.compile(
    r'^mlops_inference_requests_total\{.*?\bcode="(\d{3})".*\} (\S+)$', re.MULTILINE
)
_OVERLOAD, _FIRST_ERROR = {503, 504}, 500  # HTTP status codes


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


def counts_of(exposition: str) -> ResponseCounts:
    """The responses that a model server has counted, without those that refuse overload."""
    counts = ResponseCounts()
    for code, value in _RESPONSES.findall(exposition):
        if int(code) not in _OVERLOAD:
            amount = int(float(value))
            counts += ResponseCounts(amount, amount if int(code) >= _FIRST_ERROR else 0)
    return counts


def is_idle(stat: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether no server got a request in the last IDLE_SECONDS, by HAProxy's statistics."""
    ages = [int(row.get("lastsess") or -1) for row in stat.values()]
    return not any(0 <= age <= IDLE_SECONDS for age in ages)


ServerCounts = Mapping[str, Mapping[str, ResponseCounts]]
"""The counts of each server that answered, by service and address."""


class Watch:
    """The analysis of services. `baseline` has the counts of their servers so far."""

    def __init__(self, limits: Analysis, baseline: ServerCounts) -> None:
        self._limits = limits
        self._last = {service: dict(servers) for service, servers in baseline.items()}
        self.counts = {service: ResponseCounts() for service in baseline}
        """The responses during the analysis."""

    def observe(self, counts: ServerCounts) -> None:
        """Add what came since the previous observation of each server.

        A server without a previous observation adds nothing.
        """
        for service, last in self._last.items():
            for address, current in counts[service].items():
                self.counts[service] += current.since(last.get(address, current))
                last[address] = current

    def verdicts(self, *, ended: bool) -> dict[str, Verdict]:
        """The verdict about each service."""
        return {
            name: verdict(counts, self._limits, ended=ended) for name, counts in self.counts.items()
        }
