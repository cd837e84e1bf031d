"""Rates and quantiles: pure functions over scraped counters.

The history of a counter is a list of increases: the value at time *t* is the increase since the
previous scrape. A restarted process never makes a rate negative, and a window is a plain sum.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence


def counter_increase(previous: float, current: float) -> float:
    """The increase of a counter. A smaller value means that it restarted from zero.

    This is the rule of Prometheus' ``increase``.
    """
    return current - previous if current >= previous else current


def window_sum(times: Sequence[float], values: Sequence[float], start: float, end: float) -> float:
    """The sum of the values whose time is in ``(start, end]``. ``times`` are in ascending order."""
    return math.fsum(values[bisect_right(times, start) : bisect_right(times, end)])


def covered_seconds(times: Sequence[float], start: float, end: float) -> float | None:
    """The seconds in which the increases within ``(start, end]`` accumulated; None without any.

    ``times`` are the successful scrapes. The first increase in the window belongs to the time
    since the previous scrape, which may be outside the window.
    """
    first, last = bisect_right(times, start), bisect_right(times, end)
    if first >= last:
        return None
    seconds = times[last - 1] - times[max(first - 1, 0)]
    return seconds if seconds > 0 else None


def ratio(part: float, whole: float) -> float | None:
    """``part / whole``, limited to 0 to 1; None if the whole is 0 (no traffic)."""
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else None


def histogram_quantile(quantile: float, buckets: Mapping[float, float]) -> float | None:
    """A quantile (0 to 1) of a histogram. ``buckets`` maps upper bounds to cumulative counts.

    As Prometheus' ``histogram_quantile``: linear interpolation inside a bucket, the lowest bucket
    starts at 0, and a quantile in the ``+Inf`` bucket is the highest finite bound. None without
    observations or without a finite bucket.
    """
    bounds = sorted(buckets)
    if len(bounds) < 2 or bounds[-1] != math.inf:
        return None
    counts: list[float] = []
    for bound in bounds:
        # The exporter reads buckets one by one, so a count can be smaller than the previous one.
        counts.append(max(buckets[bound], counts[-1] if counts else 0.0))
    total = counts[-1]
    if not total > 0:
        return None
    rank = quantile * total
    # An empty bucket cannot contain the quantile, not even quantile 0.
    index = next(i for i, count in enumerate(counts) if count >= rank and count > 0)
    if index == len(bounds) - 1:
        return bounds[-2]
    upper, count = bounds[index], counts[index]
    if index == 0 and upper <= 0:
        return upper
    lower = bounds[index - 1] if index else 0.0
    below = counts[index - 1] if index else 0.0
    return lower + (upper - lower) * max(rank - below, 0.0) / (count - below)
