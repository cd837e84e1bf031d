"""Drift of features and predictions between a reference and a window, and concept drift.

Numbers are compared by the two-sample Kolmogorov-Smirnov test, categories by the chi-square test of
homogeneity; the score of a category is the Jensen-Shannon distance (base 2, 0 to 1). The p-values
of all features are corrected for the number of tests.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from river.drift import ADWIN
from scipy import stats
from scipy.spatial.distance import jensenshannon
from statsmodels.stats.multitest import multipletests

MIN_SAMPLES = 500
"""With 100 values a population stability index above 0.1 occurs in 41 % of windows of identical
data. Fewer samples than this are not tested."""
OTHER = "(other)"
_MIN_EXPECTED = 5.0
Correction = Literal["bonferroni", "holm", "fdr_bh"]


@dataclass(frozen=True)
class FeatureDrift:
    """The comparison of one feature. ``p_value`` is corrected."""

    feature: str
    method: Literal["ks", "chi-square"]
    score: float
    p_value: float
    drifted: bool
    reference_count: int
    count: int


def compare(
    reference: Mapping[str, Sequence[Any]],
    window: Mapping[str, Sequence[Any]],
    *,
    alpha: float = 0.01,
    min_samples: int = MIN_SAMPLES,
    correction: Correction = "bonferroni",
) -> list[FeatureDrift]:
    """The drift of every feature with enough values in both samples, by name.

    The probability that any feature of identical data is reported is at most ``alpha``, with
    ``fdr_bh`` the expected share of wrong reports. Missing values (None, NaN) are left out.
    """
    tests = []
    for feature in sorted(reference.keys() & window.keys()):
        before, now = _present(reference[feature]), _present(window[feature])
        if min(len(before), len(now)) < min_samples:
            continue
        if _numeric(before) and _numeric(now):
            result = stats.ks_2samp(before, now)
            tests.append((feature, "ks", float(result.statistic), float(result.pvalue)))
        else:
            score, p_value = _categories(list(map(str, before)), list(map(str, now)))
            tests.append((feature, "chi-square", score, p_value))
    if not tests:
        return []
    rejected, corrected, *_ = multipletests(
        [p_value for *_, p_value in tests], alpha=alpha, method=correction
    )
    return [
        FeatureDrift(
            feature=feature,
            method=method,  # type: ignore[arg-type]
            score=score,
            p_value=float(p_value),
            drifted=bool(drifted),
            reference_count=len(_present(reference[feature])),
            count=len(_present(window[feature])),
        )
        for (feature, method, score, _), p_value, drifted in zip(
            tests, corrected, rejected, strict=True
        )
    ]


def concept_drift(errors: Iterable[float], delta: float = 0.002) -> list[int]:
    """The positions at which ADWIN detects a change of the mean of the 0/1 errors."""
    detector: Any = ADWIN(delta=delta)  # type: ignore[no-untyped-call]
    changes = []
    for index, error in enumerate(errors):
        detector.update(error)
        if detector.drift_detected:
            changes.append(index)
    return changes


def _present(values: Sequence[Any]) -> list[Any]:
    return [
        value
        for value in values
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    ]


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _categories(before: list[str], now: list[str]) -> tuple[float, float]:
    """The Jensen-Shannon distance and the p-value of the chi-square test.

    Categories with an expected count below 5 are one category, as the test requires.
    """
    counts = Counter(before), Counter(now)
    total = counts[0] + counts[1]
    smaller = min(len(before), len(now)) / (len(before) + len(now))
    frequent = [name for name in sorted(total) if total[name] * smaller >= _MIN_EXPECTED]
    names = frequent if len(frequent) == len(total) else [*frequent, OTHER]
    table = np.array(
        [
            [
                count[name] if name != OTHER else len(rows) - sum(count[each] for each in frequent)
                for name in names
            ]
            for count, rows in zip(counts, (before, now), strict=True)
        ],
        float,
    )
    if table.shape[1] < 2:
        return 0.0, 1.0
    distance = float(jensenshannon(table[0], table[1], base=2))
    return distance, float(stats.chi2_contingency(table).pvalue)
