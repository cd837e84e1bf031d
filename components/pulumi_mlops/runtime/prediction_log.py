"""The prediction log: one record per request, written to Parquet off the request path.

Layout (Hive style, so that Spark, DuckDB and pyarrow prune by endpoint, version and day)::

    <location>/endpoint=<endpoint>/version=<version>/date=YYYY-MM-DD/<time>-<instance>-<seq>.parquet

Each file also holds the endpoint and version as columns, so that it stands on its own. pyarrow
refuses a column that is in both the path and the file with different types; read with
``partitioning=None`` (pandas: ``pd.read_parquet(location, partitioning=None)``).
"""

from __future__ import annotations

import io
import logging
import os
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

logger = logging.getLogger(__name__)

SECONDS_PER_DAY = 86_400
RECORD_OVERHEAD_BYTES = 400  # the Python objects of one queued record beside its JSON


@dataclass(frozen=True, slots=True)
class Record:
    """One answered request.

    ``id`` is what late labels are joined on. ``time`` is when the request arrived, in seconds
    since the epoch. ``inputs`` is JSON, by column (``{"age": [41, 37]}``) where the model's inputs
    have names; ``outputs`` is the JSON list of predictions, one item per row. ``latency_seconds``
    runs from the request's arrival to its answer.
    """

    id: str
    time: float
    inputs: bytes
    outputs: bytes
    latency_seconds: float

    @property
    def size(self) -> int:
        """Approximate memory held while queued, in bytes."""
        return len(self.inputs) + len(self.outputs) + RECORD_OVERHEAD_BYTES


class Store(Protocol):
    """Where finished files go. Putting the same key twice leaves one file."""

    def put(self, key: str, data: bytes) -> None:
        """Write a whole file, or raise."""


class FolderStore:
    """A folder on this machine; a file appears whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, data: bytes) -> None:
        """Write beside the target and rename, since readers list the folder at any time."""
        target = self.folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        partial.write_bytes(data)
        partial.replace(target)


class S3Store:
    """A bucket and prefix; credentials, region and endpoint come from the usual AWS variables."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self._client: Any = None

    def put(self, key: str, data: bytes) -> None:
        """Put one object. The retry is the log's, with the same key, so boto3's is off."""
        if self._client is None:
            self._client = self._connect()
        full_key = f"{self.prefix}/{key}" if self.prefix else key
        self._client.put_object(Bucket=self.bucket, Key=full_key, Body=data)

    def _connect(self) -> Any:
        # Imported here: in the writer's thread, and only when there is a log at all.
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        config = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 1})
        if os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
            # S3-compatible stores: bucket names are not host names there, and not all of them
            # know the checksums that AWS's own SDK adds by default.
            config = config.merge(
                Config(
                    s3={"addressing_style": "path"},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
            )
        return boto3.client("s3", config=config)


def store_for(location: str) -> Store:
    """The store of ``s3://bucket/prefix`` or of a local folder.

    Raises ValueError, naming the location, for anything else.
    """
    parts = urlsplit(location)
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(parts.netloc, parts.path.strip("/"))
    if parts.scheme in ("", "file") and not parts.netloc and parts.path:
        return FolderStore(Path(parts.path))
    raise ValueError(f"{location!r} is neither s3://bucket/prefix nor a folder")


@dataclass(slots=True)
class Stats:
    """Counts since the start, in records but for ``queued_bytes`` and ``flush_failures``."""

    written: int = 0
    dropped_full: int = 0
    dropped_shutdown: int = 0
    dropped_unencodable: int = 0
    flush_failures: int = 0
    queued: int = 0
    queued_bytes: int = 0


class PredictionLog:
    """Queues records in bounded memory and writes them as Parquet from one background thread.

    A file is written when ``flush_rows`` records wait, or the oldest has waited ``flush_seconds``.
    While the store is down the same file is retried under the same key (so a write that had
    arrived after all makes no duplicate), waiting 1, 2, 4 … ``max_backoff_seconds``; meanwhile at
    most ``max_records`` records and ``max_bytes`` bytes are kept and newer ones are dropped and
    counted (``stats().dropped_full``).
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
    ) -> None:
        self._store = store
        self._constants = {"endpoint": endpoint, "model": model, "version": version}
        self._flush_rows = flush_rows
        self._flush_seconds = flush_seconds
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._max_backoff = max_backoff_seconds
        self._instance = uuid.uuid4().hex[:8]
        self._sequence = 0
        self._queue: deque[Record] = deque()
        self._stats = Stats()
        self._deadline: float | None = None  # monotonic; set by close()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, record: Record) -> bool:
        """Queue a record without blocking on the store; False when it was dropped."""
        size = record.size
        with self._changed:
            stats = self._stats
            if self._deadline is not None:
                stats.dropped_shutdown += 1
                return False
            if stats.queued >= self._max_records or stats.queued_bytes + size > self._max_bytes:
                stats.dropped_full += 1
                return False
            self._queue.append(record)
            stats.queued += 1
            stats.queued_bytes += size
            # The writer sleeps until something is due: wake it for the first record (its clock
            # starts) and for a full file, not for every request.
            if len(self._queue) in (1, self._flush_rows):
                self._changed.notify()
            return True

    def stats(self) -> Stats:
        """A copy of the counts."""
        with self._changed:
            return replace(self._stats)

    def close(self, timeout_seconds: float = 10.0) -> bool:
        """Write what is queued, and stop; what could not be written in time is counted as dropped.

        Returns whether everything was written.
        """
        with self._changed:
            self._deadline = time.monotonic() + timeout_seconds
            self._changed.notify()
        # A put that hangs is abandoned: the thread is a daemon.
        self._thread.join(timeout_seconds + 1.0)
        with self._changed:
            left = self._stats.queued
            self._stats.dropped_shutdown += left
            self._stats.queued = self._stats.queued_bytes = 0
            self._queue.clear()
        if left:
            logger.error("prediction log: %d records were not written at shutdown", left)
        return left == 0

    def _run(self) -> None:
        while batch := self._next_batch():
            key = self._key(batch[0])
            try:
                data = to_parquet(batch, self._constants)
            except Exception:
                # Not the store's fault, so a retry would fail for ever.
                logger.exception("prediction log: a batch of %d could not be encoded", len(batch))
                self._settle(batch, written=False)
                continue
            if not self._put_until_stored(key, data):
                return
            self._settle(batch, written=True)

    def _next_batch(self) -> list[Record]:
        """Wait until a file is due and take its records; empty when closed and drained."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._deadline is not None)
            if not self._queue:
                return []
            waited = time.time() - self._queue[0].time
            self._changed.wait_for(
                lambda: len(self._queue) >= self._flush_rows or self._deadline is not None,
                timeout=min(max(self._flush_seconds - waited, 0.0), self._flush_seconds),
            )
            day = self._queue[0].time // SECONDS_PER_DAY
            batch: list[Record] = []
            while (
                self._queue
                and len(batch) < self._flush_rows
                and self._queue[0].time // SECONDS_PER_DAY == day
            ):
                batch.append(self._queue.popleft())
            return batch

    def _put_until_stored(self, key: str, data: bytes) -> bool:
        backoff = min(1.0, self._max_backoff)
        while True:
            try:
                self._store.put(key, data)
                return True
            except Exception as error:
                # Whatever a store raises (network, credentials, disk) is retried alike. The
                # first line of the message is enough, and it names no credential.
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

    def _key(self, first: Record) -> str:
        moment = datetime.fromtimestamp(first.time, UTC)
        self._sequence += 1
        return (
            f"endpoint={quote(self._constants['endpoint'], safe='')}"
            f"/version={quote(self._constants['version'], safe='')}/date={moment:%Y-%m-%d}"
            f"/{moment:%Y%m%dT%H%M%S.%fZ}-{self._instance}-{self._sequence:06d}.parquet"
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
