"""Logs of pods that are read while they are written, through restarts and lost connections."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from ..api.client import ClusterApi
from ..api.pods import Manifest

_LOOK_AGAIN_SECONDS = 1.0


@dataclass
class _Reading:
    """One container's log, as far as it was read."""

    pod: str
    container: str
    last: str = ""
    """The time of the last line that was shown."""
    done: Future[None] | None = None

    @property
    def going_on(self) -> bool:
        return self.done is not None and not self.done.done()


class Follower:
    """Shows each new line of some pods' logs, with the name of the pod.

    A container that is started again is another one, and is read from its beginning.
    """

    def __init__(self, api: ClusterApi, lines: int, show: Callable[[str, str], None]) -> None:
        self._api, self._lines, self._show = api, lines, show
        self._came: queue.Queue[tuple[_Reading, str]] = queue.Queue()
        self._known: dict[str, _Reading] = {}
        self._first = True

    @property
    def going_on(self) -> bool:
        """Whether a log is being read."""
        return any(reading.going_on for reading in self._known.values())

    def look(self, pods: Iterable[Manifest]) -> None:
        """Begin to read what is new in these pods, and again what broke off."""
        for pod, container, identity, running in _containers(pods):
            query = {"timestamps": "true"}
            if (reading := self._known.get(identity)) is None:
                reading = self._known[identity] = _Reading(pod, container)
                if self._first:
                    query["tailLines"] = str(self._lines)
            elif reading.going_on or not running:
                continue
            elif reading.last:
                query["sinceTime"] = reading.last
            say = partial(self._heard, reading)
            reading.done = self._api.follow(pod, container, query, say)
        self._first = False

    def listen(self, seconds: float = _LOOK_AGAIN_SECONDS) -> None:
        """Show what comes within this time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                self._tell(*self._came.get(timeout=left))
            except queue.Empty:
                return

    def rest(self) -> None:
        """Show what has come already."""
        while not self._came.empty():
            self._tell(*self._came.get())

    def _heard(self, reading: _Reading, line: str) -> None:
        self._came.put((reading, line))

    def _tell(self, reading: _Reading, line: str) -> None:
        stamp, _, text = line.partition(" ")
        # After a lost connection the lines of the last second come again.
        if reading.last and _order(stamp) <= _order(reading.last):
            return
        reading.last = stamp
        self._show(reading.pod, text)


def _containers(pods: Iterable[Manifest]) -> Iterator[tuple[str, str, str, bool]]:
    """Pod, name, identity and whether it runs, of each container that has been started."""
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses", []):
            if identity := status.get("containerID"):
                running = "running" in status.get("state", {})
                yield pod["metadata"]["name"], status["name"], identity, running


def _order(stamp: str) -> str:
    """A time as text that sorts: the cluster leaves out zeros at the end."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{whole}.{fraction:<09}"
