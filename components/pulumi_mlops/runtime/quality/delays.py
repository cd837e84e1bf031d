"""The observed delay of labels, and when a window has enough of them.

A recent prediction without a label says only that its delay is longer than its age: the delays are
right-censored. The Kaplan-Meier estimator uses these predictions too, so that the short delays of
the first labels do not pass for the delays of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from statsmodels.duration.survfunc import SurvfuncRight

COMPLETENESS = 0.95
"""Share of the labels that ever arrive which a final window has."""
FOLLOW_UP = 1.5
"""The oldest prediction must be this many times as old as the delay: else longer delays could not
have been observed."""


@dataclass(frozen=True)
class LabelDelay:
    """The delay of labels in seconds. ``complete`` is the age at which ``COMPLETENESS`` of the
    labels have arrived, infinite while that is unknown."""

    complete: float
    median: float
    p95: float
    labels: int


UNKNOWN = LabelDelay(math.inf, math.nan, math.nan, 0)


def observed_delay(
    delays: Sequence[float], waiting: Sequence[float], oldest: float = 0.0
) -> LabelDelay:
    """The delay of labels, from the delays of labelled predictions and the ages of others.

    ``oldest`` is the age of the oldest prediction, if it is not in the sample.
    """
    if not len(delays):
        return UNKNOWN
    times = np.maximum(np.concatenate([delays, waiting]).astype(float), 0.0)
    labelled = np.concatenate([np.ones(len(delays), int), np.zeros(len(waiting), int)])
    survival = SurvfuncRight(times, labelled)
    arrived = 1.0 - survival.surv_prob
    share = arrived / arrived[-1]

    def quantile(level: float) -> float:
        return float(survival.surv_times[np.searchsorted(share, level - 1e-9)])

    complete = quantile(COMPLETENESS)
    followed = max(float(times.max()), oldest)
    return LabelDelay(
        complete=complete if followed >= FOLLOW_UP * complete else math.inf,
        median=quantile(0.5),
        p95=quantile(0.95),
        labels=len(delays),
    )
