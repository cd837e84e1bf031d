"""Follows the logs of pods, through restarts and lost connections."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from ..api.client import ClusterApi
from ..api.pods import Manifest

_LISTEN_SECONDS = 1.0


@dataclass
class _Reading:
    """The state of reading the log of one container."""

    pod: str
    container: str
    last: str = ""
    """The timestamp of the last shown line."""
    task: Future[None] | None = None

    @property
    def is_reading(self) -> bool:
        return self.task is not None and not self.task.done()


class Follower:
    """Shows each new log line of pods with the name of the pod.

    The log of a restarted container is read from its start.
    """

    def __init__(self, api: ClusterApi, lines: int, show: Callable[[str, str], None]) -> None:
        self._api, self._lines, self._show = api, lines, show
        self._lines_read: queue.Queue[tuple[_Reading, str]] = queue.Queue()
        self._known: dict[str, _Reading] = {}
        self._first = True

    @property
    def is_reading(self) -> bool:
        """Whether any log is being read."""
        return any(reading.is_reading for reading in self._known.values())

    def update(self, pods: Iterable[Manifest]) -> None:
        """Start to read the logs of new containers, and continue interrupted ones."""
        for pod, container, identity, running in _containers(pods):
            query = {"timestamps": "true"}
            if (reading := self._known.get(identity)) is None:
                reading = self._known[identity] = _Reading(pod, container)
                if self._first:
                    query["tailLines"] = str(self._lines)
            elif reading.is_reading or not running:
                continue
            elif reading.last:
                query["sinceTime"] = reading.last
            on_line = partial(self._queue_line, reading)
            reading.task = self._api.follow(pod, container, query, on_line)
        self._first = False

    def listen(self, seconds: float = _LISTEN_SECONDS) -> None:
        """Show the lines that arrive within `seconds`."""
        until = time.monotonic() + seconds
        while (remaining := until - time.monotonic()) > 0:
            try:
                self._show_line(*self._lines_read.get(timeout=remaining))
            except queue.Empty:
                return

    def flush(self) -> None:
        """Show the lines that have arrived."""
        while not self._lines_read.empty():
            self._show_line(*self._lines_read.get())

    def _queue_line(self, reading: _Reading, line: str) -> None:
        self._lines_read.put((reading, line))

    def _show_line(self, reading: _Reading, line: str) -> None:
        stamp, _, text = line.partition(" ")
        # After a reconnect the lines of the last second are repeated.
        if reading.last and _order(stamp) <= _order(reading.last):
            return
        reading.last = stamp
        self._show(reading.pod, text)


def _containers(pods: Iterable[Manifest]) -> Iterator[tuple[str, str, str, bool]]:
    """Pod, name, id and whether it is running for each started container."""
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses", []):
            if identity := status.get("containerID"):
                running = "running" in status.get("state", {})
                yield pod["metadata"]["name"], status["name"], identity, running


def _order(stamp: str) -> str:
    """A sortable form of a timestamp: the cluster omits trailing zeros."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{whole}.{fraction:<09}"
