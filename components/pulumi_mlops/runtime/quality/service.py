"""The passes over the prediction log, the label files and the windows, in a thread."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from pulumi_mlops.runtime.quality import evaluate, ingest
from pulumi_mlops.runtime.quality import labels as labelling
from pulumi_mlops.runtime.quality.database import QualityDatabase
from pulumi_mlops.runtime.quality.delays import UNKNOWN, LabelDelay
from pulumi_mlops.runtime.quality.settings import MonitoredEndpoint, QualitySettings
from pulumi_mlops.runtime.quality.store import SourceStore

logger = logging.getLogger(__name__)

STALE_PASSES = 10
RECENT_DAYS = 2
COMPLETE_SECONDS = 3600.0
"""A pass lists the folders of the last ``RECENT_DAYS``. Once in ``COMPLETE_SECONDS`` it lists all
within the horizon: an outage of the store delays files."""


class QualityService:
    """The quality of all endpoints."""

    def __init__(
        self,
        settings: QualitySettings,
        database: QualityDatabase,
        store: SourceStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.database = database
        self.store = store
        self.clock = clock
        self.delays: dict[str, LabelDelay] = {}
        self.last_success = dict.fromkeys(settings.endpoints, clock())
        """End of the last pass of each endpoint that succeeded; at first the start."""
        self.errors: dict[str, str] = {}
        self._listed: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="passes", daemon=True)

    def start(self) -> None:
        """Start the passes."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current pass."""
        self._stopping.set()
        self._thread.join(timeout=30)

    @property
    def stale(self) -> list[str]:
        """The endpoints of which no pass has succeeded for a while."""
        limit = self.clock() - max(STALE_PASSES * self.settings.interval, 60.0)
        return sorted(name for name, time in self.last_success.items() if time < limit)

    def delay(self, endpoint: MonitoredEndpoint) -> LabelDelay:
        """The delay of labels in the last pass."""
        return self.delays.get(endpoint.name, UNKNOWN)

    def accept(
        self, endpoint: MonitoredEndpoint, items: list[dict[str, Any]]
    ) -> labelling.Received:
        """Store labels that arrive now."""
        with self.database.writing() as connection:
            return labelling.accept(connection, endpoint, items, received=self.clock())

    def one_pass(self) -> None:
        """Read what is new, and evaluate windows. An error of one endpoint does not affect others.

        Raises nothing: `errors` has the last error of each endpoint.
        """
        for endpoint in self.settings.endpoints.values():
            try:
                self._pass(endpoint)
                self.errors.pop(endpoint.name, None)
                self.last_success[endpoint.name] = self.clock()
            except Exception as error:
                logger.exception("%s: the pass failed", endpoint.name)
                self.errors[endpoint.name] = f"{type(error).__name__}: {error}".splitlines()[0]

    def _pass(self, endpoint: MonitoredEndpoint) -> None:
        with self.database.reading() as connection:
            since = evaluate.horizon(connection, endpoint, self.clock())
        started = self.clock()
        complete = abs(started - self._listed.get(endpoint.name, -math.inf)) >= COMPLETE_SECONDS
        first = since if complete else max(since, started - RECENT_DAYS * 86_400)
        ingest.read_log(
            self.database, self.store, endpoint, since=since, first_day=ingest.day(first)
        )
        if complete:
            self._listed[endpoint.name] = started
        ingest.read_label_files(self.database, self.store, endpoint)
        now = self.clock()
        with self.database.writing() as connection:
            delay = evaluate.label_delay(connection, endpoint, now)
            evaluate.evaluate_windows(connection, endpoint, delay, now, self.settings.grace)
            evaluate.prune(connection, endpoint, now)
        self.delays[endpoint.name] = delay

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.one_pass()
            self._stopping.wait(self.settings.interval)
