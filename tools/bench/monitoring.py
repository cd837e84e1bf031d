"""Triggers, drift detectors and drift tests on simulated streams, each figure with its interval.

The drop is an accuracy of 0.90 that becomes 0.75; the threshold is 0.85. A stationary stream has
10,000 labels with an accuracy of 0.90. The naive comparison is the accuracy of the same windows
without an interval and without a second window.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from figures import Figure, progress
from river.drift import ADWIN
from river.drift.binary import DDM, EDDM
from scipy import stats

from pulumi_mlops.runtime.quality import drift
from pulumi_mlops.runtime.quality.triggers import MetricThreshold, fired

Array = np.ndarray[Any, Any]
Detector = Callable[[Array], Iterator[int]]
GOOD, BAD, THRESHOLD = 0.90, 0.75, 0.85
LABELS = 10_000
BEFORE_DROP = 2_000
ALPHA = 0.01


def triggers(smoke: bool) -> Iterator[Figure]:
    """False fires per 10,000 labels, and the delay in labels after the drop."""
    streams = 8 if smoke else 200
    threshold = MetricThreshold(minimum=THRESHOLD, recover_at=GOOD)
    for name, detector, false_limit, delay_limit in (
        ("MetricThreshold", lambda outcomes: fired(threshold, outcomes), 0.2, 200),
        ("naive comparison", lambda outcomes: _naive(threshold, outcomes), None, None),
    ):
        progress(f"{name}: {streams} streams of {LABELS} labels")
        yield _false_fires(name, detector, streams, false_limit)
        yield _delay(name, detector, streams, delay_limit)


def detectors(smoke: bool) -> Iterator[Figure]:
    """River's detectors on the 0/1 errors: false alarms before the drop, and the delay after it."""
    streams = 8 if smoke else 100
    makers: dict[str, Callable[[], Any]] = {"ADWIN": partial(ADWIN, 0.002), "DDM": DDM,
                                            "EDDM": EDDM}  # fmt: skip
    for name, make in makers.items():
        progress(f"{name}: {streams} streams")

        def detector(outcomes: Array, make: Callable[[], Any] = make) -> Iterator[int]:
            return _alarms(make(), ~outcomes)

        alarmed = sum(
            any(True for _ in detector(_stream(seed, [GOOD], BEFORE_DROP)))
            for seed in range(streams)
        )
        yield _share(f"{name}: streams with a false alarm in {BEFORE_DROP} labels", alarmed,
                     streams, 0.05 if name == "ADWIN" else None)  # fmt: skip
        yield _delay(name, detector, streams, None)


def drift_tests(smoke: bool) -> Iterator[Figure]:
    """Windows of identical data that are reported, with and without the correction."""
    runs = 2 if smoke else 200
    for features in (10, 100):
        progress(f"drift of {features} features: {runs} windows")
        corrected = uncorrected = 0
        for run in range(runs):
            random = np.random.default_rng(run)
            sample = [
                {f"f{i}": random.normal(size=500).tolist() for i in range(features)}
                for _ in range(2)
            ]
            found = drift.compare(*sample, alpha=ALPHA)
            corrected += any(each.drifted for each in found)
            # Bonferroni multiplies by the number of tests.
            uncorrected += any(each.p_value < features * ALPHA for each in found)
        # 1 % is expected. The limit is the 99.9 % quantile for as many windows.
        limit = float(stats.binom.ppf(0.999, runs, ALPHA)) / runs
        yield _share(f"{features} features: windows reported", corrected, runs, limit)
        yield _share(f"{features} features, uncorrected", uncorrected, runs, None)


def _stream(seed: int, accuracies: Sequence[float], each: int) -> Array:
    random = np.random.default_rng(seed)
    return random.random(each * len(accuracies)) < np.repeat(accuracies, each)


def _naive(trigger: MetricThreshold, outcomes: Array) -> Iterator[int]:
    armed = True
    for end in range(trigger.stride, len(outcomes) + 1, trigger.stride):
        window = outcomes[max(end - trigger.window, 0) : end]
        if len(window) < trigger.min_samples:
            continue
        below = window.mean() < trigger.threshold
        if below and armed:
            yield end - 1
        armed = not below


def _alarms(detector: Any, errors: Array) -> Iterator[int]:
    for index, error in enumerate(errors):
        detector.update(bool(error))
        if detector.drift_detected:
            yield index


def _false_fires(name: str, detector: Detector, streams: int, limit: float | None) -> Figure:
    count = sum(len(list(detector(_stream(seed, [GOOD], LABELS)))) for seed in range(streams))
    # The exact interval of a Poisson rate.
    low = stats.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    high = stats.chi2.ppf(0.975, 2 * count + 2) / 2
    return Figure(
        f"{name}: false fires per 10,000 labels", count / streams, limit, unit="",
        interval=(low / streams, high / streams),
    )  # fmt: skip


def _delay(name: str, detector: Detector, streams: int, limit: float | None) -> Figure:
    """The median delay. A stream without an alarm after the drop counts as infinite."""
    delays = []
    for seed in range(streams):
        outcomes = _stream(10_000 + seed, [GOOD, BAD], BEFORE_DROP)
        alarms = (index for index in detector(outcomes) if index >= BEFORE_DROP)
        delays.append(next(alarms, BEFORE_DROP * 10) - BEFORE_DROP + 1)
    interval = stats.quantile_test(delays, p=0.5).confidence_interval(0.95)
    return Figure(
        f"{name}: median delay", statistics.median(delays), limit, unit="labels",
        samples=delays, interval=(float(interval.low), float(interval.high)),
    )  # fmt: skip


def _share(name: str, count: int, runs: int, limit: float | None) -> Figure:
    interval = stats.binomtest(count, runs).proportion_ci(0.95, "wilson")
    return Figure(name, count / runs, limit, interval=(float(interval.low), float(interval.high)))
