"""Triggers of continuous training, as pure functions over a stream of results.

A trigger receives each result once, in order, and returns whether it fires. Its state is a plain
value that a caller can store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from pulumi_mlops.runtime.quality.evaluation import wilson


@dataclass(frozen=True, kw_only=True)
class MetricThreshold:
    """Fires when a share is worse than a threshold with a given confidence.

    One of ``minimum`` (such as an accuracy) and ``maximum`` (such as an error rate) is set. The
    share is that of the last ``window`` results, evaluated every ``stride`` results, when there are
    at least ``min_samples``. The trigger fires when the Wilson bound is beyond the threshold in
    ``consecutive`` evaluations. It fires again only after the share was at ``recover_at`` or better
    in one evaluation.

    Raises ValueError with the input that is wrong.
    """

    minimum: float | None = None
    maximum: float | None = None
    recover_at: float | None = None
    """Default: the threshold."""
    window: int = 200
    stride: int = 50
    min_samples: int = 100
    confidence: float = 0.95
    consecutive: int = 2

    def __post_init__(self) -> None:
        if (self.minimum is None) == (self.maximum is None):
            raise ValueError("minimum, maximum: set exactly one of them")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold: {self.threshold:g} must be between 0 and 1")
        if not 1 <= self.min_samples <= self.window:
            raise ValueError(f"min_samples: must be 1 to the window, {self.window}")
        if not 1 <= self.stride <= self.window:
            raise ValueError(f"stride: must be 1 to the window, {self.window}")
        if not 0.5 <= self.confidence < 1:
            raise ValueError("confidence: must be at least 0.5 and less than 1")
        if self.consecutive < 1:
            raise ValueError("consecutive: must be at least 1")
        level = self.recovery
        if level < self.threshold if self.minimum is not None else level > self.threshold:
            side = "at least" if self.minimum is not None else "at most"
            raise ValueError(f"recover_at: {level:g} must be {side} {self.threshold:g}")

    @property
    def threshold(self) -> float:
        """The threshold, of either side."""
        level = self.minimum if self.minimum is not None else self.maximum
        assert level is not None  # noqa: S101 - checked by __post_init__
        return level

    @property
    def recovery(self) -> float:
        """The level at which the trigger is armed again."""
        return self.threshold if self.recover_at is None else self.recover_at

    def beyond(self, successes: int, count: int) -> bool:
        """Whether the share is worse than the threshold with the confidence of the trigger.

        The confidence is one-sided: the bound is that of the interval with twice the error.
        """
        low, high = wilson(successes, count, 2 * self.confidence - 1)
        return high < self.threshold if self.minimum is not None else low > self.threshold

    def recovered(self, successes: int, count: int) -> bool:
        """Whether the share is at the recovery level or better."""
        share = successes / count
        return share >= self.recovery if self.minimum is not None else share <= self.recovery


@dataclass(frozen=True)
class ThresholdState:
    """The state of a MetricThreshold between two evaluations."""

    armed: bool = True
    breaches: int = 0


def evaluate(
    trigger: MetricThreshold, state: ThresholdState, successes: int, count: int
) -> tuple[ThresholdState, bool]:
    """The new state, and whether the trigger fires, for the share of one evaluation."""
    if count < trigger.min_samples:
        return state, False
    if not state.armed:
        return replace(state, armed=trigger.recovered(successes, count), breaches=0), False
    breaches = state.breaches + 1 if trigger.beyond(successes, count) else 0
    fires = breaches >= trigger.consecutive
    return ThresholdState(armed=not fires, breaches=0 if fires else breaches), fires


def fired(trigger: MetricThreshold, outcomes: Iterable[bool]) -> Iterator[int]:
    """The positions in a stream of 0/1 outcomes at which the trigger fires."""
    last: list[bool] = []
    state = ThresholdState()
    for index, outcome in enumerate(outcomes):
        last.append(bool(outcome))
        if len(last) > trigger.window:
            del last[0]
        if (index + 1) % trigger.stride == 0:
            state, fires = evaluate(trigger, state, sum(last), len(last))
            if fires:
                yield index
