"""Quality metrics of labelled predictions, each with a 95 % confidence interval.

==============================  ==================================================================
accuracy, precision, recall     Wilson score interval of a share. With more than two classes
                                precision and recall are macro averages with the interval of F1
F1                              bootstrap over the confusion matrix
AUC                             Hanley and McNeil (1982), doi:10.1148/radiology.143.1.7063747. With
                                more than two classes the mean over one class against the rest; the
                                mean of the standard errors is an upper bound of its standard error
log loss, MAE                   normal interval of a mean
RMSE                            square roots of the normal interval of the mean squared error
R2                              delta method for a ratio of means
==============================  ==================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from sklearn import metrics
from statsmodels.stats.proportion import proportion_confint

CONFIDENCE = 0.95
RESAMPLES = 1000
RATIOS = ("accuracy", "precision", "recall", "f1", "auc", "r2")
LOSSES = ("log_loss", "rmse", "mae")
_Z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Estimate:
    """A metric and the bounds of its confidence interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """The three numbers by name."""
        return {"value": self.value, "low": self.low, "high": self.high}


def wilson(successes: int, count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The Wilson score interval of the share ``successes / count``; 0 to 1 for no data."""
    if count == 0:
        return 0.0, 1.0
    low, high = proportion_confint(successes, count, alpha=1 - confidence, method="wilson")
    return float(low), float(high)


def classification(
    labels: Sequence[str],
    predicted: Sequence[str],
    scores: Sequence[Mapping[str, float] | None] = (),
    positive: str | None = None,
) -> dict[str, Estimate]:
    """The metrics of a classifier. Without labels none, without any class probabilities no AUC and
    log loss; rows without probabilities are left out of these.

    ``positive`` is the class that precision, recall and F1 are about. Default: their macro average.
    """
    if not labels:
        return {}
    classes = sorted({*labels, *predicted})
    index = {name: position for position, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), int)
    np.add.at(matrix, ([index[each] for each in labels], [index[each] for each in predicted]), 1)
    correct, count = int(np.trace(matrix)), int(matrix.sum())
    found = {"accuracy": Estimate(correct / count, *wilson(correct, count))}
    if positive is not None:
        found |= _of_class(matrix, classes, positive)
    else:
        found |= _macro(matrix)
    scored = [(label, score) for label, score in zip(labels, scores, strict=False) if score]
    if scored:
        found |= _probabilistic([label for label, _ in scored], [score for _, score in scored],
                                positive)  # fmt: skip
    return found


def regression(labels: Sequence[float], predicted: Sequence[float]) -> dict[str, Estimate]:
    """The metrics of a regression model. R2 needs two different labels."""
    if not labels:
        return {}
    truth, guess = np.asarray(labels, float), np.asarray(predicted, float)
    squared = (guess - truth) ** 2
    mean = _mean(squared)
    found = {
        "rmse": Estimate(
            float(metrics.root_mean_squared_error(truth, guess)),
            math.sqrt(max(mean.low, 0.0)),
            math.sqrt(mean.high),
        ),
        "mae": _not_negative(_mean(np.abs(guess - truth))),
    }
    spread = (truth - truth.mean()) ** 2
    if spread.sum() > 0:
        r2 = float(metrics.r2_score(truth, guess)) if len(truth) > 1 else math.nan
        # The standard error of the ratio of the means of `squared` and `spread`.
        residual = squared - (1 - r2) * spread
        error = _Z * float(residual.std() / math.sqrt(len(truth)) / spread.mean())
        found["r2"] = Estimate(r2, r2 - error, min(r2 + error, 1.0))
    return found


def _of_class(matrix: Array, classes: list[str], positive: str) -> dict[str, Estimate]:
    """Precision, recall and F1 of one class. A metric whose denominator is 0 is left out."""
    if positive not in classes:
        return {}
    index = classes.index(positive)
    hits = int(matrix[index, index])
    of_predicted, of_actual = int(matrix[:, index].sum()), int(matrix[index].sum())
    found = {
        name: Estimate(hits / count, *wilson(hits, count))
        for name, count in (("precision", of_predicted), ("recall", of_actual))
        if count
    }
    if total := of_predicted + of_actual:
        low, high = _bootstrap(
            matrix,
            lambda m: _share(2 * m[:, index, index], m[:, :, index].sum(1) + m[:, index].sum(1)),
        )
        found["f1"] = Estimate(2 * hits / total, low, high)
    return found


def _macro(matrix: Array) -> dict[str, Estimate]:
    def precisions(m: Array) -> Array:
        return _share(np.diagonal(m, axis1=1, axis2=2), m.sum(1))

    def recalls(m: Array) -> Array:
        return _share(np.diagonal(m, axis1=1, axis2=2), m.sum(2))

    def f1(m: Array) -> Array:
        return _share(2 * np.diagonal(m, axis1=1, axis2=2), m.sum(1) + m.sum(2))

    found = {}
    for name, function in (("precision", precisions), ("recall", recalls), ("f1", f1)):
        value = float(function(matrix[None]).mean())
        low, high = _bootstrap(matrix, lambda m, function=function: function(m).mean(1))
        found[name] = Estimate(value, low, high)
    return found


def _share(part: Array, whole: Array) -> Array:
    """0 where the denominator is 0, as in scikit-learn."""
    return np.divide(part, whole, out=np.zeros(whole.shape), where=whole > 0)


def _bootstrap(matrix: Array, statistic: Any) -> tuple[float, float]:
    """A percentile interval. Resampling rows is resampling the cells of the confusion matrix."""
    count = int(matrix.sum())
    random = np.random.default_rng(0)  # the same data gives the same interval
    drawn = random.multinomial(count, matrix.ravel() / count, RESAMPLES)
    values = statistic(drawn.reshape(RESAMPLES, *matrix.shape))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _probabilistic(
    labels: list[str], scores: list[Mapping[str, float]], positive: str | None
) -> dict[str, Estimate]:
    classes = sorted({*labels, *(name for score in scores for name in score)})
    table = np.array([[score.get(name, 0.0) for name in classes] for score in scores], float)
    truth = np.array([classes.index(label) for label in labels])
    tiny = float(np.finfo(float).eps)
    chosen = np.clip(table[np.arange(len(truth)), truth], tiny, 1.0)
    found = {"log_loss": _not_negative(_mean(-np.log(chosen)))}
    wanted = [positive] if positive in classes else classes[-1:] if len(classes) == 2 else classes
    parts = [
        area
        for name in wanted
        if (area := _auc(truth == classes.index(name or ""), table[:, classes.index(name or "")]))
    ]
    if parts:
        value = sum(area for area, _ in parts) / len(parts)
        error = _Z * sum(error for _, error in parts) / len(parts)
        found["auc"] = Estimate(value, max(value - error, 0.0), min(value + error, 1.0))
    return found


def _auc(truth: Array, score: Array) -> tuple[float, float] | None:
    """The area under the ROC curve and its standard error; None if only one class occurs."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return None
    area = float(metrics.roc_auc_score(truth, score))
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (
        area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    )
    return area, math.sqrt(max(variance, 0.0) / (positives * negatives))


def _mean(values: Array) -> Estimate:
    mean = float(values.mean())
    error = _Z * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Estimate(mean, mean - error, mean + error)


def _not_negative(estimate: Estimate) -> Estimate:
    return Estimate(estimate.value, max(estimate.low, 0.0), estimate.high)
