"""Metrics, intervals, drift and the delay of labels, against known values and simulations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from pulumi_mlops.runtime.quality import drift, evaluation
from pulumi_mlops.runtime.quality.delays import UNKNOWN, observed_delay


def test_wilson_interval_is_that_of_the_literature() -> None:
    """Newcombe (1998), table I: 81 of 263 and 0 of 20."""
    assert evaluation.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert evaluation.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert evaluation.wilson(0, 0) == (0.0, 1.0)


def draw(seed: int, count: int = 400) -> tuple[list[str], list[str], list[dict[str, float]]]:
    random = np.random.default_rng(seed)
    classes = np.array(["a", "b", "c"])
    table = random.dirichlet([2, 1, 1], count)
    labels = [str(random.choice(classes, p=row)) for row in table]
    predicted = [str(each) for each in classes[table.argmax(1)]]
    return labels, predicted, [dict(zip("abc", map(float, row), strict=True)) for row in table]


def test_metrics_of_classes_are_those_of_scikit_learn() -> None:
    labels, predicted, scores = draw(1)
    found = evaluation.classification(labels, predicted, scores)
    table = np.array([[row[name] for name in "abc"] for row in scores])
    expected = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "precision": metrics.precision_score(labels, predicted, average="macro"),
        "recall": metrics.recall_score(labels, predicted, average="macro"),
        "f1": metrics.f1_score(labels, predicted, average="macro"),
        "log_loss": metrics.log_loss(labels, table),
        "auc": metrics.roc_auc_score(labels, table, multi_class="ovr"),
    }
    assert {name: each.value for name, each in found.items()} == pytest.approx(expected)
    assert all(each.low < each.value < each.high for each in found.values())


def test_metrics_of_a_positive_class() -> None:
    labels = ["yes"] * 30 + ["no"] * 70
    predicted = ["yes"] * 20 + ["no"] * 75 + ["yes"] * 5
    scores = [{"yes": 0.9 if each == "yes" else 0.2} for each in predicted]
    found = evaluation.classification(labels, predicted, scores, positive="yes")
    assert found["precision"].value == 20 / 25
    assert found["recall"].value == 20 / 30
    assert found["recall"].low == evaluation.wilson(20, 30)[0]
    assert found["f1"].value == pytest.approx(metrics.f1_score(labels, predicted, pos_label="yes"))
    assert 0.5 < found["auc"].low < found["auc"].value < found["auc"].high <= 1


def test_without_probabilities_there_is_no_auc() -> None:
    found = evaluation.classification(["a", "b"], ["a", "a"], [None, None])
    assert set(found) == {"accuracy", "precision", "recall", "f1"}
    assert evaluation.classification([], []) == {}


def test_one_class_alone_has_no_auc() -> None:
    found = evaluation.classification(["a", "a"], ["a", "a"], [{"a": 1.0}, {"a": 0.5}])
    assert "auc" not in found
    assert found["accuracy"].value == 1.0


def test_metrics_of_numbers_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(3)
    truth = random.normal(size=500)
    guess = truth + random.normal(0.1, 0.5, size=500)
    found = evaluation.regression(list(truth), list(guess))
    expected = {
        "rmse": metrics.root_mean_squared_error(truth, guess),
        "mae": metrics.mean_absolute_error(truth, guess),
        "r2": metrics.r2_score(truth, guess),
    }
    assert {name: each.value for name, each in found.items()} == pytest.approx(expected)
    assert set(evaluation.regression([1.0, 1.0], [1.0, 2.0])) == {"rmse", "mae"}


RUNS = 300


def covered(estimates: list[Any], truth: float) -> float:
    return sum(each.low <= truth <= each.high for each in estimates) / len(estimates)


@pytest.mark.parametrize("name", ["rmse", "mae", "r2"])
def test_intervals_of_numbers_cover_the_truth(name: str) -> None:
    """95 % intervals: with 300 runs a coverage below 0.91 or above 0.99 is no chance."""
    random = np.random.default_rng(4)
    estimates = []
    for _ in range(RUNS):
        truth = random.normal(size=300)
        guess = truth + random.normal(0, 0.5, size=300)
        estimates.append(evaluation.regression(list(truth), list(guess))[name])
    expected = {"rmse": 0.5, "mae": 0.5 * math.sqrt(2 / math.pi), "r2": 0.75}[name]
    assert 0.91 <= covered(estimates, expected) <= 0.99


def test_interval_of_auc_covers_the_truth() -> None:
    random = np.random.default_rng(5)
    estimates = []
    for _ in range(RUNS):
        truth = random.random(300) < 0.3
        score = 1 / (1 + np.exp(-random.normal(np.where(truth, 1.0, 0.0))))
        labels = ["yes" if each else "no" for each in truth]
        found = evaluation.classification(
            labels, labels, [{"yes": float(s), "no": 1 - float(s)} for s in score], positive="yes"
        )
        estimates.append(found["auc"])
    # The area for two normal distributions one standard deviation apart.
    assert 0.91 <= covered(estimates, 0.7602) <= 0.99


def columns(seed: int, features: int, count: int, shift: float = 0.0) -> dict[str, list[Any]]:
    random = np.random.default_rng(seed)
    half = features // 2
    found: dict[str, list[Any]] = {
        f"n{i}": random.normal(shift, 1, count).tolist() for i in range(half)
    }
    found |= {
        f"c{i}": random.choice(list("abcd"), count, p=[0.4 + shift / 5, 0.3, 0.2, 0.1 - shift / 5])
        .tolist() for i in range(features - half)
    }  # fmt: skip
    return found


def test_false_alarms_of_identical_data_are_at_most_alpha() -> None:
    runs, features = 100, 10
    alarms = sum(
        any(each.drifted for each in drift.compare(
            columns(2 * run, features, 500), columns(2 * run + 1, features, 500), alpha=0.01
        ))
        for run in range(runs)
    )  # fmt: skip
    # 1 is expected; 6 or more have a probability below 0.001.
    assert alarms <= 5


def test_a_shift_is_detected_in_numbers_and_categories() -> None:
    found = drift.compare(columns(1, 4, 1000), columns(2, 4, 1000, shift=0.4))
    assert {each.feature: each.method for each in found} == {
        "n0": "ks", "n1": "ks", "c0": "chi-square", "c1": "chi-square",
    }  # fmt: skip
    assert all(each.drifted for each in found)
    assert all(0 < each.score < 1 for each in found)


def test_fewer_rows_than_the_minimum_are_not_tested() -> None:
    assert drift.compare(columns(1, 4, 499), columns(2, 4, 1000, shift=0.4)) == []


def test_missing_values_and_new_categories() -> None:
    before = {"x": ["a"] * 600 + [None] * 100, "gone": [1.0] * 700}
    now = {"x": ["b"] * 600, "new": [1.0] * 600}
    (found,) = drift.compare(before, now)
    assert (found.feature, found.reference_count, found.drifted) == ("x", 600, True)
    assert found.score == pytest.approx(1.0)
    many = [f"user-{i}" for i in range(1000)]
    (found,) = drift.compare({"x": many}, {"x": many[::-1]})
    assert not found.drifted


def test_adwin_detects_a_change_of_the_error_rate() -> None:
    random = np.random.default_rng(6)
    before, after = random.random(3000) < 0.1, random.random(3000) < 0.4
    assert drift.concept_drift(before) == []
    (first, *_) = drift.concept_drift(np.concatenate([before, after]))
    assert 3000 < first < 3400


def test_delay_of_labels_that_all_arrive() -> None:
    found = observed_delay([10.0] * 50, [])
    assert (found.complete, found.median) == (math.inf, 10.0)  # no longer delay could be seen
    found = observed_delay([10.0] * 50, [100.0])
    assert (found.complete, found.labels) == (10.0, 50)
    assert observed_delay([], [5.0]) == UNKNOWN


def test_short_delays_of_the_first_labels_do_not_count_as_all() -> None:
    """Delays are 0 to 24 h. The estimate is known only once the longest could be observed."""
    random = np.random.default_rng(7)
    delays = random.uniform(0, 24, 5000)
    for age in (1, 6, 12, 24, 30):
        made = random.uniform(0, age, 5000)
        labelled = delays <= age - made
        found = observed_delay(delays[labelled], (age - made)[~labelled], oldest=age)
        assert found.complete == math.inf, age
    made = random.uniform(0, 48, 5000)
    labelled = delays <= 48 - made
    found = observed_delay(delays[labelled], (48 - made)[~labelled], oldest=48)
    assert found.complete == pytest.approx(0.95 * 24, abs=0.5)


def test_predictions_that_are_never_labelled_do_not_delay_a_window() -> None:
    delays = np.random.default_rng(8).exponential(1.0, 500)
    found = observed_delay(delays, [50.0] * 4500)
    assert found.complete == pytest.approx(3.0, abs=0.5)
