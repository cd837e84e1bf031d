"""Rates and quantiles of the monitor, against their definitions."""

import math
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulumi_mlops.runtime.monitor.exposition import Sample
from pulumi_mlops.runtime.monitor.history import Budget, TargetHistory
from pulumi_mlops.runtime.monitor.rates import (
    counter_increase,
    covered_seconds,
    histogram_quantile,
    ratio,
    window_sum,
)

counts = st.integers(min_value=0, max_value=10**9).map(float)
REQUESTS = "mlops_inference_requests_total"


def observed(bounds: list[float], values: list[float]) -> dict[float, float]:
    edges = [*sorted(bounds), math.inf]
    return {edge: float(sum(value <= edge for value in values)) for edge in edges}


bounds = st.lists(
    st.floats(min_value=0.001, max_value=100), min_size=1, max_size=12, unique=True
).map(sorted)
latencies = st.lists(st.floats(min_value=0.0001, max_value=200), min_size=1, max_size=200)


@given(counts, counts)
def test_an_increase_is_never_negative(previous: float, current: float) -> None:
    increase = counter_increase(previous, current)
    assert increase >= 0
    if current >= previous:
        assert previous + increase == current
    else:
        assert increase == current  # it restarted from zero


@given(bounds, latencies, st.floats(min_value=0.01, max_value=1))
def test_a_quantile_lies_in_the_bucket_that_holds_it(
    edges: list[float], values: list[float], quantile: float
) -> None:
    answer = histogram_quantile(quantile, observed(edges, values))
    exact = sorted(values)[max(math.ceil(quantile * len(values)) - 1, 0)]
    index = bisect_left(edges, exact)
    assert answer is not None
    if index == len(edges):
        assert answer == edges[-1]
    else:
        low = edges[index - 1] if index else 0.0
        assert low - 1e-9 <= answer <= edges[index] + 1e-9


@given(bounds, latencies, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_ascend(
    edges: list[float], values: list[float], first: float, second: float
) -> None:
    buckets = observed(edges, values)
    low, high = sorted((first, second))
    lower, upper = histogram_quantile(low, buckets), histogram_quantile(high, buckets)
    assert lower is not None and upper is not None
    assert lower <= upper + 1e-9


def test_the_quantile_that_prometheus_gives() -> None:
    # histogram_quantile(0.5) over le 1: 2, 2: 8, +Inf: 10 is 1 + 1 * (5 - 2) / 6
    assert histogram_quantile(0.5, {1: 2, 2: 8, math.inf: 10}) == pytest.approx(1.5)
    assert histogram_quantile(0.95, {1: 2, 2: 8, math.inf: 10}) == 2


@pytest.mark.parametrize(
    "buckets", [{}, {math.inf: 3.0}, {1.0: 0.0, math.inf: 0.0}, {1.0: 2.0, 2.0: 3.0}]
)
def test_no_quantile_of_nothing(buckets: dict[float, float]) -> None:
    assert histogram_quantile(0.5, buckets) is None


@given(bounds, st.lists(counts, min_size=13, max_size=13), st.floats(0, 1))
def test_a_quantile_of_inconsistent_buckets_stays_in_range(
    edges: list[float], numbers: list[float], quantile: float
) -> None:
    buckets = dict(zip([*edges, math.inf], numbers, strict=False))
    answer = histogram_quantile(quantile, buckets)
    assert answer is None or 0 <= answer <= edges[-1] + 1e-9


@given(counts, counts)
def test_a_ratio_is_a_share_or_unknown(part: float, whole: float) -> None:
    answer = ratio(part, whole)
    assert (answer is None) == (whole == 0)
    assert answer is None or 0 <= answer <= 1


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 1000)), min_size=2, max_size=60))
def test_windows_that_touch_add_up(steps: list[tuple[int, int]]) -> None:
    times, now = [], 0.0
    for gap, _ in steps:
        now += gap
        times.append(now)
    values = [float(value) for _, value in steps]
    middle = times[len(times) // 2]
    parts = window_sum(times, values, 0, middle) + window_sum(times, values, middle, now)
    assert parts == window_sum(times, values, 0, now) == sum(values)
    covered = [covered_seconds(times, 0, middle) or 0, covered_seconds(times, middle, now) or 0]
    assert sum(covered) == covered_seconds(times, 0, now) == times[-1] - times[0]


@given(st.lists(st.integers(0, 50), min_size=2, max_size=50), st.data())
def test_restarts_never_lose_or_invent_requests(grown: list[int], data: st.DataObject) -> None:
    """What a process counted before a restart and after it adds up, scrape by scrape."""
    history = TargetHistory(1e9, Budget())
    value, expected = 0, 0
    for index, growth in enumerate(grown):
        # A restart shows only when the counter is smaller than it was.
        restarted = index > 0 and growth < value and data.draw(st.booleans())
        value = growth if restarted else value + growth
        expected += growth if index else 0
        history.record(float(index), [Sample(REQUESTS, {"code": "200"}, float(value))])
    (series,) = history.series.values()
    assert all(increase > 0 for increase in series.values)
    assert sum(series.values) == expected


def test_the_first_error_of_a_kind_is_counted() -> None:
    history = TargetHistory(1800, Budget())
    ok = Sample(REQUESTS, {"code": "200"}, 100.0)
    history.record(0, [ok])
    history.record(5, [ok, Sample(REQUESTS, {"code": "500"}, 2.0)])
    increases = {s.labels["code"]: list(s.values) for s in history.series.values()}
    assert increases == {"200": [], "500": [2.0]}


def test_memory_is_bounded_in_time_and_in_series() -> None:
    budget = Budget(limit=10)
    history = TargetHistory(60, budget)
    for now in range(1000):
        history.record(
            float(now), [Sample(REQUESTS, {"code": str(c)}, float(now)) for c in range(15)]
        )
    assert len(history.series) == budget.used == 10
    assert budget.refused == 5
    assert len(history.times) <= 65
    assert all(len(series.times) <= 65 for series in history.series.values())
    for now in range(1000, 1100):
        history.record(float(now), [])
    assert (history.series, budget.used, budget.refused) == ({}, 0, 0)


def test_a_series_that_was_refused_before_does_not_arrive_as_a_spike() -> None:
    budget = Budget(limit=1)
    history = TargetHistory(60, budget)
    first, second = (Sample(REQUESTS, {"code": code}, 1e6) for code in ("200", "500"))
    history.record(0, [first, second])
    for now in range(1, 200):
        history.record(float(now), [second])
    (series,) = history.series.values()
    assert series.labels == {"code": "500"}
    assert sum(series.values) == 0
