"""The rule that decides whether a new model is promoted to champion."""

from dataclasses import dataclass
from typing import Literal

# Accuracies are fractions of whole rows. Smaller differences are rounding errors.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Decision:
    """`rejected`: not registered. `kept`: registered as challenger. `promoted`: also champion."""

    verdict: Literal["rejected", "kept", "promoted"]
    reason: str


def decide(
    challenger: float, champion: float | None, min_accuracy: float, min_delta: float
) -> Decision:
    """Compare accuracies on the same hold-out. `champion` is None without a champion.

    With `min_delta` 0, an equal accuracy is enough: the challenger was trained on newer data, and
    a champion without errors could otherwise never be replaced.
    """
    if challenger < min_accuracy - TOLERANCE:
        return Decision(
            "rejected", f"accuracy {challenger:.4f} is below the minimum of {min_accuracy:.4f}"
        )
    if champion is None:
        return Decision("promoted", f"accuracy {challenger:.4f}, and there is no champion yet")
    gain = challenger - champion
    reason = (
        f"accuracy {challenger:.4f} against the champion's {champion:.4f}: "
        f"a gain of {gain:+.4f}, required: {min_delta:.4f}"
    )
    return Decision("promoted" if gain >= min_delta - TOLERANCE else "kept", reason)
