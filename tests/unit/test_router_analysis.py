"""The analysis of the first requests of a version."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulumi_mlops.runtime.model_server.metrics import Metrics
from pulumi_mlops.runtime.model_server.settings import ModelServerSettings
from pulumi_mlops.runtime.router.analysis import (
    Analysis,
    ResponseCounts,
    Verdict,
    Watch,
    counts_of,
    is_idle,
    verdict,
    wilson,
)
from pulumi_mlops.runtime.router.haproxy import ProxyBackend
from pulumi_mlops.targets.local.host.first_requests import new_services

LIMITS = Analysis(seconds=10, min_requests=20, max_error_rate=0.05)


@pytest.mark.parametrize(
    ("requests", "errors", "ended", "expected"),
    [
        (0, 0, False, Verdict.UNDECIDED),
        (0, 0, True, Verdict.INCONCLUSIVE),
        (19, 19, False, Verdict.UNDECIDED),
        (19, 19, True, Verdict.INCONCLUSIVE),
        (20, 20, False, Verdict.FAILED),
        (20, 5, False, Verdict.FAILED),
        (20, 1, False, Verdict.UNDECIDED),
        (20, 1, True, Verdict.PASSED),
        (20, 2, True, Verdict.FAILED),
        (20, 0, False, Verdict.UNDECIDED),
        (73, 0, False, Verdict.PASSED),
        (10_000, 500, False, Verdict.UNDECIDED),
        (10_000, 400, False, Verdict.PASSED),
        (10_000, 600, False, Verdict.FAILED),
    ],
)
def test_verdicts(requests: int, errors: int, ended: bool, expected: Verdict) -> None:
    assert verdict(ResponseCounts(requests, errors), LIMITS, ended=ended) is expected


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_interval_contains_the_rate(requests: int, share: float) -> None:
    errors = round(requests * share)
    low, high = wilson(ResponseCounts(requests, errors))
    assert 0 <= low <= errors / requests + 1e-12
    assert errors / requests <= high + 1e-12
    assert high <= 1


def exposition(**counts: int) -> str:
    """What a model server publishes: its responses by status code."""
    settings = ModelServerSettings.from_env(
        {
            "MLOPS_ENDPOINT": "live", "MLOPS_MODEL_NAME": 'a "b"', "MLOPS_MODEL_VERSION": "2",
            "MLOPS_MODEL_DIR": "/model",
        }
    )  # fmt: skip
    metrics = Metrics(settings, None)
    for code, amount in counts.items():
        metrics.count_request(int(code.removeprefix("c")), amount)
    return metrics.exposition().decode()


def test_refusals_of_overload_are_left_out() -> None:
    counts = counts_of(exposition(c200=7, c400=2, c500=3, c503=50, c504=20))
    assert counts == ResponseCounts(7 + 2 + 3, 3)
    assert counts_of("") == ResponseCounts()


def test_overload_never_fails_a_version() -> None:
    watch = Watch(LIMITS, {"v2": {"a": ResponseCounts()}})
    watch.observe({"v2": {"a": counts_of(exposition(c200=5, c503=1000))}})
    assert watch.verdicts(ended=True) == {"v2": Verdict.INCONCLUSIVE}


def test_counters_that_are_reset_lose_nothing_and_count_nothing_twice() -> None:
    watch = Watch(LIMITS, {"v2": {"a": ResponseCounts(100, 9)}})
    for requests, errors in ((110, 10), (5, 1), (8, 1)):
        watch.observe({"v2": {"a": ResponseCounts(requests, errors)}})
    assert watch.counts == {"v2": ResponseCounts(10 + 5 + 3, 1 + 1 + 0)}


def test_a_server_that_does_not_answer_for_a_moment_counts_nothing_twice() -> None:
    watch = Watch(LIMITS, {"v2": {"a": ResponseCounts(100, 9)}})
    watch.observe({"v2": {"b": ResponseCounts(50, 5)}})
    watch.observe({"v2": {"a": ResponseCounts(103, 9), "b": ResponseCounts(51, 6)}})
    assert watch.counts == {"v2": ResponseCounts(3 + 1, 0 + 1)}


@pytest.mark.parametrize(
    ("ages", "idle"),
    [([], True), (["", "-1"], True), (["61", "-1"], True), (["61", "60"], False), (["0"], False)],
)
def test_an_endpoint_is_idle_without_a_request_in_the_last_minute(
    ages: list[str], idle: bool
) -> None:
    stat = {f"v1-{number}": {"lastsess": age} for number, age in enumerate(ages)}
    assert is_idle(stat) is idle


@pytest.mark.parametrize(
    ("after", "served", "expected"),
    [
        ({"v1": 90, "v2": 10}, {"v1"}, ["v2"]),
        ({"v1": 0, "v2": 100}, {"v1"}, ["v2"]),
        ({"v1": 100, "v2": 0}, {"v1"}, []),  # kept warm: no requests
        ({"v1": 100, "v2": 0}, {"v1", "v2"}, []),  # a rollback
        ({"v1": 50, "v2": 50}, {"v1", "v2"}, []),  # a larger weight
    ],
)
def test_services_that_get_their_first_requests_are_analyzed(
    after: Any, served: set[str], expected: list[str]
) -> None:
    backends = {name: ProxyBackend(weight, ("127.0.0.1:1",), "/") for name, weight in after.items()}
    assert new_services(backends, served) == expected
