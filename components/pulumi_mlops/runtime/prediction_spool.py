"""The write-ahead files of the prediction log: answered requests that are not in the store yet.

A segment file has the records of one future Parquet file, so that writing it a second time after a
crash replaces the first. The records are in the page cache of the kernel when a request is
answered: they survive the end of the process, not that of the machine.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

RECORD_OVERHEAD_BYTES = 400  # Python objects of one queued record, without its JSON
_HEAD = struct.Struct("<IIIdd")
_SUFFIX = ".segment"


@dataclass(frozen=True, slots=True)
class Record:
    """One answered request.

    ``id`` is the key to join labels that arrive later. ``time`` is the arrival of the request in
    seconds since the epoch. ``inputs`` is JSON, by column (``{"age": [41, 37]}``) if the model's
    inputs have names; ``outputs`` is the JSON list of predictions, one item per row.
    ``latency_seconds`` is the time from the arrival of the request to its answer.
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


class SegmentFile:
    """The file of one segment, which is created with its first record."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._failed = False

    def append(self, record: Record) -> None:
        """Write a record. An error is logged, and ends the file: the log itself continues."""
        if self._failed:
            return
        identifier = record.id.encode()
        lengths = len(identifier), len(record.inputs), len(record.outputs)
        head = _HEAD.pack(*lengths, record.time, record.latency_seconds)
        data = b"".join((head, identifier, record.inputs, record.outputs))
        try:
            if self._fd is None:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o600)
            if os.write(self._fd, data) != len(data):
                raise OSError("the record was written in part")
        except OSError as error:
            self._failed = True
            logger.warning("prediction log: %s: %s", self._path, error)

    def close(self) -> None:
        """Close the file. Its records stay until `delete`."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def delete(self) -> None:
        """Delete the file, whose records are in the store."""
        self.close()
        self._path.unlink(missing_ok=True)


class Spool:
    """A folder with the segments of one server. No two servers may share it."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._leftover = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime)
        while sum(path.stat().st_size for path in self._leftover) > max_bytes:
            oldest = self._leftover.pop(0)
            logger.error("prediction log: the records in %s are dropped for their size", oldest)
            oldest.unlink()

    def file(self, name: str) -> SegmentFile:
        """The file of the segment `name`."""
        return SegmentFile(self._folder / f"{name}{_SUFFIX}")

    def leftover(self) -> Iterator[tuple[str, list[Record], SegmentFile]]:
        """The segments of earlier processes: name, records and file, oldest first."""
        for path in self._leftover:
            yield path.name.removesuffix(_SUFFIX), read_segment(path), SegmentFile(path)


def read_segment(path: Path) -> list[Record]:
    """The complete records of a segment file. A record that was cut off was never answered."""
    data = path.read_bytes()
    records = []
    position = 0
    while position + _HEAD.size <= len(data):
        *lengths, time, latency = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        if position + sum(lengths) > len(data):
            break
        parts = []
        for length in lengths:
            parts.append(data[position : position + length])
            position += length
        records.append(Record(parts[0].decode(), time, parts[1], parts[2], latency))
    return records
