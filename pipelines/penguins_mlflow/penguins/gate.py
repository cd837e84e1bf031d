"""Who is champion: the rule that decides on a promotion."""

from dataclasses import dataclass
from typing import Literal

# Accuracies are fractions of whole rows; closer than this they are equal and only rounding differs.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Decision:
    """`rejected` is not registered, `kept` is registered as challenger, `promoted` is champion."""

    verdict: Literal["rejected", "kept", "promoted"]
    reason: str


def decide(
    challenger: float, champion: float | None, min_accuracy: float, min_delta: float
) -> Decision:
    """Compare accuracies on the same hold-out; `champion` is None when there is none yet.

    A challenger that is as good as the champion passes a `min_delta` of 0: it learned from
    newer data, and a champion without a mistake could otherwise never be replaced.
    """
    if challenger < min_accuracy - TOLERANCE:
        return Decision(
            "rejected", f"accuracy {challenger:.4f} is below the floor of {min_accuracy:.4f}"
        )
    if champion is None:
        return Decision("promoted", f"accuracy {challenger:.4f}, and there is no champion yet")
    gain = challenger - champion
    told = (
        f"accuracy {challenger:.4f} against the champion's {champion:.4f}: "
        f"a gain of {gain:+.4f} where {min_delta:.4f} is asked"
    )
    return Decision("promoted" if gain >= min_delta - TOLERANCE else "kept", told)
