"""The prediction log: one record per request, written as Parquet in the background.

Layout (Hive partitions, so that Spark, DuckDB and pyarrow prune by endpoint, version and day)::

    <location>/endpoint=<endpoint>/version=<version>/date=YYYY-MM-DD/<time>-<instance>-<seq>.parquet

Each file also contains the endpoint and version as columns, so that it can be read alone. pyarrow
refuses a column whose types in the path and in the file differ; read with
``partitioning=None`` (pandas: ``pd.read_parquet(location, partitioning=None)``).
"""

from __future__ import annotations

import io
import logging
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pulumi_mlops.runtime.prediction_spool import Record, SegmentFile, Spool
from pulumi_mlops.runtime.prediction_store import Store

__all__ = ["PredictionLog", "Record", "Stats", "to_parquet"]

logger = logging.getLogger(__name__)

SECONDS_PER_DAY = 86_400
ADOPT_SECONDS = 30.0
"""Interval of the search for files of servers that have ended."""


@dataclass(slots=True)
class Stats:
    """Counts since the start, in records except for ``queued_bytes``, ``flush_failures`` and
    ``damaged_files``, the files of the spool that could not be read.
    """

    written: int = 0
    dropped_full: int = 0
    dropped_shutdown: int = 0
    dropped_unencodable: int = 0
    damaged_files: int = 0
    flush_failures: int = 0
    queued: int = 0
    queued_bytes: int = 0


@dataclass(slots=True, eq=False)
class _Segment:
    """The records of one file, or of one file a day."""

    name: str
    constants: dict[str, str]
    file: SegmentFile | None
    queued_at: float = field(default_factory=time.monotonic)
    records: list[Record] = field(default_factory=list)


class PredictionLog:
    """Queues records in bounded memory and writes them as Parquet from one background thread.

    A file is written when ``flush_rows`` records are queued, or the oldest was queued
    ``flush_seconds`` ago, so that there is at most one smaller file in ``flush_seconds``. A failed
    write is retried under the same key, so that no duplicate results, after 1, 2, 4 …
    ``max_backoff_seconds``. Meanwhile the queue holds at most ``max_records`` records and
    ``max_bytes`` bytes. Further records are dropped and counted (``stats().dropped_full``).

    With ``spool``, queued records are also in files of this folder. Each log with the folder writes
    what processes that have ended left there, under the same keys: at its start, and every
    ADOPT_SECONDS. ``spool_is_shared`` says whether the folder outlives this server; otherwise
    records that are not written at the end are counted as dropped.
    """

    def __init__(
        self,
        store: Store,
        *,
        endpoint: str,
        model: str,
        version: str,
        flush_rows: int = 1000,
        flush_seconds: float = 10.0,
        max_records: int = 50_000,
        max_bytes: int = 64 * 1024 * 1024,
        max_backoff_seconds: float = 30.0,
        spool: Path | None = None,
        spool_is_shared: bool = True,
    ) -> None:
        self._store = store
        self._constants = {"endpoint": endpoint, "model": model, "version": version}
        self._flush_rows = flush_rows
        self._flush_seconds = flush_seconds
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._max_backoff = max_backoff_seconds
        self._spool = Spool(spool, 4 * max_bytes) if spool is not None else None
        self._keeps = spool is not None and spool_is_shared
        self._next_search = 0.0  # monotonic
        self._instance = uuid.uuid4().hex[:8]
        self._sequence = 0
        self._segments: deque[_Segment] = deque()
        self._stats = Stats()
        self._deadline: float | None = None  # monotonic; set by close()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, record: Record) -> bool:
        """Queue a record without waiting for the store. Returns False if it was dropped."""
        size = record.size
        with self._changed:
            stats = self._stats
            if self._deadline is not None:
                stats.dropped_shutdown += 1
                return False
            if stats.queued >= self._max_records or stats.queued_bytes + size > self._max_bytes:
                stats.dropped_full += 1
                return False
            segment = self._segments[-1] if self._segments else None
            if segment is None or len(segment.records) >= self._flush_rows:
                segment = self._new_segment()
            segment.records.append(record)
            if segment.file is not None:
                segment.file.append(record)
            stats.queued += 1
            stats.queued_bytes += size
            # Wake the background thread only for the first record, whose waiting time starts now,
            # and for a full file.
            if len(segment.records) in (1, self._flush_rows):
                self._changed.notify()
            return True

    def _new_segment(self) -> _Segment:
        self._sequence += 1
        name = f"{self._instance}-{self._sequence:06d}"
        file = self._spool.file(name, self._constants) if self._spool is not None else None
        segment = _Segment(name, self._constants, file)
        self._segments.append(segment)
        return segment

    def stats(self) -> Stats:
        """A copy of the counts."""
        with self._changed:
            stats = replace(self._stats)
        if self._spool is not None:
            stats.damaged_files = self._spool.damaged_files
            stats.dropped_full += self._spool.dropped_records
        return stats

    def close(self, timeout_seconds: float = 10.0) -> bool:
        """Write the queued records and stop. Records not written in time are counted as dropped.

        Returns whether all were written.
        """
        with self._changed:
            self._deadline = time.monotonic() + timeout_seconds
            self._changed.notify()
        # The thread is a daemon, so a put that hangs does not keep the process alive.
        self._thread.join(timeout_seconds + 1.0)
        with self._changed:
            unwritten = self._stats.queued
            if not self._keeps:
                self._stats.dropped_shutdown += unwritten
            self._stats.queued = self._stats.queued_bytes = 0
            for segment in self._segments:
                if segment.file is not None:
                    segment.file.close()
            self._segments.clear()
        if unwritten:
            kept = "kept for the next server" if self._keeps else "lost with this replica"
            logger.error("prediction log: %d records were not written: %s", unwritten, kept)
        return unwritten == 0

    def _run(self) -> None:
        while self._write_leftover() and not self._is_drained():
            segment = self._next_segment()
            if segment is not None and not self._write(segment):
                return

    def _is_drained(self) -> bool:
        with self._changed:
            return self._deadline is not None and not self._segments

    def _write_leftover(self) -> bool:
        """Write what other servers left, at intervals. False if the log was closed before."""
        now = time.monotonic()
        if self._spool is None or now < self._next_search:
            return True
        self._next_search = now + ADOPT_SECONDS
        for leftover in self._spool.leftover():
            records = leftover.records
            with self._changed:
                self._stats.queued += len(records)
                self._stats.queued_bytes += sum(record.size for record in records)
            constants = self._constants | leftover.constants
            if not self._write(_Segment(leftover.name, constants, leftover.file, records=records)):
                return False
        return True

    def _next_segment(self) -> _Segment | None:
        """Wait until a file is due. Returns its segment; None if there is none for a while."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._segments or self._deadline is not None,
                timeout=None if self._spool is None else self._next_search - time.monotonic(),
            )
            if not self._segments:
                return None
            first = self._segments[0]
            waited = time.monotonic() - first.queued_at
            self._changed.wait_for(
                lambda: len(first.records) >= self._flush_rows or self._deadline is not None,
                timeout=max(self._flush_seconds - waited, 0.0),
            )
            self._segments.popleft()
            return first

    def _write(self, segment: _Segment) -> bool:
        """Write a segment to the store, one file a day. False if the log was closed before."""
        days: dict[float, list[Record]] = {}
        for record in segment.records:
            days.setdefault(record.time // SECONDS_PER_DAY, []).append(record)
        for batch in days.values():
            try:
                data = to_parquet(batch, segment.constants)
                key = _key(batch[0], segment)
            except Exception:
                # The error is in the data, so a retry would fail again.
                logger.exception("prediction log: a batch of %d could not be encoded", len(batch))
                self._settle(batch, written=False)
                continue
            if not self._put_until_stored(key, data):
                if segment.file is not None:
                    segment.file.close()
                return False
            self._settle(batch, written=True)
        if segment.file is not None:
            segment.file.delete()
        return True

    def _put_until_stored(self, key: str, data: bytes) -> bool:
        backoff = min(1.0, self._max_backoff)
        while True:
            try:
                self._store.put(key, data)
                return True
            except Exception as error:
                # Every error of a store (network, credentials, disk) is retried. Log only the
                # first line of the message: it contains no credential.
                reason = str(error).splitlines()[0] if str(error) else ""
                logger.warning(
                    "prediction log: %s not written, retrying in %.0f s: %s: %s",
                    key, backoff, type(error).__name__, reason,
                )  # fmt: skip
            with self._changed:
                self._stats.flush_failures += 1
                wait = backoff
                if self._deadline is not None:
                    wait = min(0.5, self._deadline - time.monotonic())
                    if wait <= 0:
                        return False
                    self._changed.wait(wait)
                else:
                    self._changed.wait_for(lambda: self._deadline is not None, timeout=wait)
            backoff = min(backoff * 2, self._max_backoff)

    def _settle(self, batch: list[Record], *, written: bool) -> None:
        with self._changed:
            self._stats.queued -= len(batch)
            self._stats.queued_bytes -= sum(record.size for record in batch)
            if written:
                self._stats.written += len(batch)
            else:
                self._stats.dropped_unencodable += len(batch)


def _key(first: Record, segment: _Segment) -> str:
    moment = datetime.fromtimestamp(first.time, timezone.utc)
    return (
        f"endpoint={quote(segment.constants['endpoint'], safe='')}"
        f"/version={quote(segment.constants['version'], safe='')}/date={moment:%Y-%m-%d}"
        f"/{moment:%Y%m%dT%H%M%S.%fZ}-{segment.name}.parquet"
    )


def to_parquet(records: list[Record], constants: dict[str, str]) -> bytes:
    """The records as one Parquet file, with endpoint, model and version as columns."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    def text(values: list[bytes]) -> Any:
        return pa.array([value.decode() for value in values], pa.string())

    count = len(records)
    table = pa.table(
        {
            "id": pa.array([r.id for r in records], pa.string()),
            "time": pa.array(
                [int(r.time * 1_000_000) for r in records], pa.timestamp("us", tz="UTC")
            ),
            **{name: pa.array([value] * count, pa.string()) for name, value in constants.items()},
            "inputs": text([r.inputs for r in records]),
            "outputs": text([r.outputs for r in records]),
            "latency_seconds": pa.array([r.latency_seconds for r in records], pa.float64()),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
