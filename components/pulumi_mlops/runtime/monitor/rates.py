"""The arithmetic of rates and quantiles: pure functions over counters that were scraped.

A counter's history is kept as increases: the value at time *t* is what was added since the scrape
before. So a restarted process never makes a rate negative, and a window is a plain sum.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence


def counter_increase(previous: float, current: float) -> float:
    """How much a counter grew; a smaller value means that it restarted from zero.

    Same rule as Prometheus' ``increase``.
    """
    return current - previous if current >= previous else current


def window_sum(times: Sequence[float], values: Sequence[float], start: float, end: float) -> float:
    """The sum of the values whose time lies in ``(start, end]``; ``times`` ascend."""
    return math.fsum(values[bisect_right(times, start) : bisect_right(times, end)])


def covered_seconds(times: Sequence[float], start: float, end: float) -> float | None:
    """How long the increases within ``(start, end]`` took to accumulate; None without any.

    ``times`` are the successful scrapes. The first increase in the window belongs to the time
    since the scrape before it, which may lie outside the window.
    """
    first, last = bisect_right(times, start), bisect_right(times, end)
    if first >= last:
        return None
    seconds = times[last - 1] - times[max(first - 1, 0)]
    return seconds if seconds > 0 else None


def ratio(part: float, whole: float) -> float | None:
    """``part / whole``, between 0 and 1; None when the whole is nothing (no traffic)."""
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else None


def histogram_quantile(quantile: float, buckets: Mapping[float, float]) -> float | None:
    """The quantile (0 to 1) of a histogram given as upper bound to cumulative count.

    Linear inside a bucket, the lowest bucket starts at 0, and a quantile in the ``+Inf`` bucket is
    reported as the highest finite bound: Prometheus' ``histogram_quantile``. None when nothing was
    observed or no finite bucket exists.
    """
    bounds = sorted(buckets)
    if len(bounds) < 2 or bounds[-1] != math.inf:
        return None
    counts: list[float] = []
    for bound in bounds:
        # Buckets are read one after the other by the exporter, so they can be off by a few.
        counts.append(max(buckets[bound], counts[-1] if counts else 0.0))
    total = counts[-1]
    if not total > 0:
        return None
    rank = quantile * total
    # A bucket that gained nothing cannot hold the quantile, not even the 0th.
    index = next(i for i, count in enumerate(counts) if count >= rank and count > 0)
    if index == len(bounds) - 1:
        return bounds[-2]
    upper, reached = bounds[index], counts[index]
    if index == 0 and upper <= 0:
        return upper
    lower = bounds[index - 1] if index else 0.0
    below = counts[index - 1] if index else 0.0
    return lower + (upper - lower) * max(rank - below, 0.0) / (reached - below)
