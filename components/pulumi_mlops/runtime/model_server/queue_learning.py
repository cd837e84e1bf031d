"""What a queue learns from its requests: how long clients wait, and how many are worth one call."""

from __future__ import annotations

import statistics
from collections import deque

_RECOVERY_SECONDS = 10.0
_OUTCOMES = 32
_MIN_SECONDS = 0.1
_CALL_SECONDS = 0.25
"""A longer call of the model must be worth its combined requests."""


class Patience:
    """The time limit of the queue, learnt from clients that gave up."""

    def __init__(self, limit: float) -> None:
        self._max = limit
        self._base = limit
        self._since = 0.0
        self._outcomes: deque[float | None] = deque(maxlen=_OUTCOMES)

    def limit(self, now: float) -> float:
        """The limit in seconds."""
        if self._base >= self._max:
            return self._max
        doublings = min((now - self._since) / _RECOVERY_SECONDS, 32)
        # Not at once: many small increases between refusals would add up.
        return min(self._max, float(self._base * 2 ** max(doublings - 1, 0)))

    def is_lowered(self, now: float) -> bool:
        """Whether clients gave up lately."""
        return self.limit(now) < self._max

    def refused(self, now: float) -> None:
        """A request was refused: the overload lasts, and the limit does not grow."""
        self._base, self._since = self.limit(now), now

    def served(self) -> None:
        """A request reached the model."""
        self._outcomes.append(None)

    def given_up(self, waited: float, now: float) -> None:
        """A client closed the connection after `waited` seconds in the queue."""
        self._outcomes.append(waited)
        waits = [wait for wait in self._outcomes if wait is not None]
        if len(waits) > _OUTCOMES // 2:
            self._base = max(statistics.median(waits) / 4, _MIN_SECONDS)
            self._since = now
            self._outcomes.clear()


class BatchSize:
    """How many requests are worth one call of the model.

    A call that takes long without saving time per request only delays the answers, so its size is
    halved. It grows again while calls are short.
    """

    def __init__(self) -> None:
        self._size = 1 << 30
        self._single_seconds = 0.0

    def limit(self, max_batch: int) -> int:
        """The number of requests of the next call."""
        return min(self._size, max_batch)

    def observe(self, count: int, seconds: float) -> None:
        """Note how long a call of `count` requests took."""
        if count == 1:
            weight = 0.2 if self._single_seconds else 1.0
            self._single_seconds += weight * (seconds - self._single_seconds)
        elif seconds > _CALL_SECONDS and seconds / count > self._single_seconds / 2:
            self._size = max(count // 2, 1)
            return
        if count >= self._size and seconds < _CALL_SECONDS / 2:
            self._size *= 2
