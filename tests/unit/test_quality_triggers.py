"""The trigger on a metric: when it fires, when it is armed again, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pulumi_mlops.runtime.quality.triggers import (
    MetricThreshold,
    ThresholdState,
    evaluate,
    fired,
)

ACCURACY = MetricThreshold(minimum=0.85, recover_at=0.9)


def test_it_fires_in_the_second_consecutive_window() -> None:
    state, fires = evaluate(ACCURACY, ThresholdState(), 150, 200)
    assert (state, fires) == (ThresholdState(armed=True, breaches=1), False)
    state, fires = evaluate(ACCURACY, state, 150, 200)
    assert (state, fires) == (ThresholdState(armed=False), True)


def test_a_window_within_the_interval_breaks_the_sequence() -> None:
    state, _ = evaluate(ACCURACY, ThresholdState(), 150, 200)
    state, fires = evaluate(ACCURACY, state, 168, 200)  # 0.84, whose bound is above 0.85
    assert (state, fires) == (ThresholdState(), False)


def test_it_fires_again_only_after_a_recovery() -> None:
    state = ThresholdState(armed=False)
    for successes in (150, 176, 179):
        state, fires = evaluate(ACCURACY, state, successes, 200)
        assert (state.armed, fires) == (False, False)
    state, _ = evaluate(ACCURACY, state, 180, 200)
    assert state.armed


def test_too_few_samples_change_nothing() -> None:
    state = ThresholdState(breaches=1)
    assert evaluate(ACCURACY, state, 0, 99) == (state, False)


def test_a_maximum_is_the_mirror_of_a_minimum() -> None:
    error_rate = MetricThreshold(maximum=0.15, recover_at=0.1)
    outcomes = np.random.default_rng(1).random(4000) < np.repeat([0.9, 0.7], 2000)
    assert list(fired(error_rate, ~outcomes)) == list(fired(ACCURACY, outcomes)) != []


def test_one_drop_fires_once() -> None:
    outcomes = np.random.default_rng(2).random(8000) < np.repeat([0.95, 0.7, 0.95, 0.7], 2000)
    first, second = fired(ACCURACY, outcomes)
    assert 2000 < first < 2400 and 6000 < second < 6400


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "minimum, maximum"),
        ({"minimum": 0.8, "maximum": 0.9}, "minimum, maximum"),
        ({"minimum": 1.2}, "threshold"),
        ({"minimum": 0.8, "recover_at": 0.7}, "recover_at: 0.7 must be at least 0.8"),
        ({"maximum": 0.2, "recover_at": 0.3}, "recover_at: 0.3 must be at most 0.2"),
        ({"minimum": 0.8, "stride": 500}, "stride"),
        ({"minimum": 0.8, "min_samples": 500}, "min_samples"),
        ({"minimum": 0.8, "confidence": 1.0}, "confidence"),
        ({"minimum": 0.8, "consecutive": 0}, "consecutive"),
    ],
)
def test_invalid_inputs_are_refused(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetricThreshold(**inputs)
