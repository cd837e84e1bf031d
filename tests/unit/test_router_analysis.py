"""The analysis of the first requests of a version."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.runtime.router.analysis import (
    Analysis,
    ResponseCounts,
    Verdict,
    Watch,
    counts_of,
    verdict,
    wilson,
)
from pulumi_mlops.runtime.router.haproxy import ProxyBackend
from pulumi_mlops.targets.local.host.first_requests import FirstRequests, new_services

from .provider_fixtures import Log, make_context

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


def row(**counts: int) -> dict[str, str]:
    return {key: str(value) for key, value in counts.items()}


def test_responses_of_all_servers_of_a_service_count() -> None:
    stat = {
        "v1-0a": row(hrsp_2xx=5, hrsp_5xx=1),
        "v2-0b": row(hrsp_2xx=7, hrsp_4xx=2, hrsp_5xx=3),
        "v2-0c": row(hrsp_2xx=1, hrsp_other=1) | {"hrsp_5xx": ""},
        "BACKEND": row(hrsp_2xx=100),
    }
    assert counts_of(stat, ["v2", "v3"]) == {
        "v2": ResponseCounts(14, 3),
        "v3": ResponseCounts(0, 0),
    }


def test_counters_that_are_reset_lose_nothing_and_count_nothing_twice() -> None:
    watch = Watch(LIMITS, {"v2": ResponseCounts(100, 9)})
    for requests, errors in ((110, 10), (5, 1), (8, 1)):
        watch.observe({"v2": ResponseCounts(requests, errors)})
    assert watch.counts == {"v2": ResponseCounts(10 + 5 + 3, 1 + 1 + 0)}


def backends(**weights: int) -> dict[str, ProxyBackend]:
    return {name: ProxyBackend(weight, ("127.0.0.1:1",), "/") for name, weight in weights.items()}


@pytest.mark.parametrize(
    ("before", "after", "analyzed", "expected"),
    [
        ({"v1": 100}, {"v1": 90, "v2": 10}, {"v1"}, ["v2"]),
        ({"v1": 100, "v2": 0}, {"v1": 0, "v2": 100}, {"v1"}, ["v2"]),
        ({"v1": 100}, {"v1": 100, "v2": 0}, {"v1"}, []),  # kept warm: no requests
        ({"v1": 0, "v2": 100}, {"v1": 100, "v2": 0}, {"v1", "v2"}, []),  # a rollback
        ({"v1": 90, "v2": 10}, {"v1": 50, "v2": 50}, {"v1"}, ["v2"]),  # was inconclusive
        ({"v1": 90, "v2": 10}, {"v1": 90, "v2": 10}, {"v1"}, []),
    ],
)
def test_services_that_get_their_first_requests_are_analyzed(
    before: Any, after: Any, analyzed: set[str], expected: list[str]
) -> None:
    assert new_services(backends(**before), backends(**after), analyzed) == expected


class Statistics:
    """The statistics of HAProxy: each reading has the next counts of v2. Then the last ones."""

    def __init__(self, *counts: tuple[int, int]) -> None:
        self._counts = list(counts)

    def stat(self, endpoint: str) -> dict[str, dict[str, str]]:
        assert endpoint == "live"
        requests, errors = self._counts[0]
        if len(self._counts) > 1:
            del self._counts[0]
        return {"v2-0a": row(hrsp_2xx=requests - errors, hrsp_5xx=errors)}


def first(tmp_path: Path, log: Log, statistics: Any, seconds: float = 30) -> FirstRequests:
    ctx = make_context(tmp_path, "mlops:local:Route", "route", log=log)
    limits = Analysis(seconds=seconds, min_requests=20, max_error_rate=0.05)
    return FirstRequests(ctx, statistics, "live", ["v2"], limits)


def test_a_service_with_too_many_errors_fails_at_once(tmp_path: Path) -> None:
    statistics = Statistics((1000, 1000), (1010, 1010), (1025, 1025))
    with pytest.raises(ResourceError, match=r"v2 answered 25 of its first 25 requests with a 5xx"):
        first(tmp_path, Log(), statistics).wait()


def test_a_service_without_errors_passes(tmp_path: Path) -> None:
    log = Log()
    assert first(tmp_path, log, Statistics((0, 0), (90, 0))).wait() == {"v2"}
    assert log.of("warning") == []


def test_a_service_without_requests_passes_never_silently(tmp_path: Path) -> None:
    log = Log()
    assert first(tmp_path, log, Statistics((0, 0), (3, 0)), seconds=0.3).wait() == set()
    (warning,) = log.of("warning")
    assert "v2 got 3 requests in 0.3 s, and 20 are required" in warning
    assert "were not analyzed" in warning


def test_a_proxy_that_does_not_answer_is_inconclusive(tmp_path: Path) -> None:
    class Silent:
        def stat(self, endpoint: str) -> Any:
            raise OSError

    log = Log()
    assert first(tmp_path, log, Silent(), seconds=0.1).wait() == set()
    assert len(log.of("warning")) == 1


def test_an_interrupt_ends_the_analysis(tmp_path: Path) -> None:
    watching = first(tmp_path, Log(), Statistics((0, 0)))
    stopped = threading.Event()
    stopped.set()
    object.__setattr__(watching._ctx, "cancelled", stopped)
    with pytest.raises(ResourceError, match="interrupted"):
        watching.wait()
