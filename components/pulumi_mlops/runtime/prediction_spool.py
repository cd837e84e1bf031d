"""The write-ahead files of the prediction log: answered requests that are not in the store yet.

A segment file has the records of one future Parquet file and what all of them have in common, so
that writing it a second time after a crash replaces the first. The records are in the page cache of
the kernel when a request is answered: they survive the end of the process, not that of the machine.

Servers may share the folder. Each holds a lock (flock) on its own files, which the kernel releases
when the process ends. A file without a lock is written by the server that locks it first.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

RECORD_OVERHEAD_BYTES = 400  # Python objects of one queued record, without its JSON
_LENGTH = struct.Struct("<I")
_HEAD = struct.Struct("<IIIdd")
_SUFFIX = ".segment"
_DAMAGED = ".damaged"


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
    """The file of one segment, locked while it is open. It is created with its first record."""

    def __init__(
        self, path: Path, constants: dict[str, str] | None = None, fd: int | None = None
    ) -> None:
        self._path = path
        self._constants = constants or {}
        self._fd = fd
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
                self._fd = self._create()
                constants = json.dumps(self._constants).encode()
                data = _LENGTH.pack(len(constants)) + constants + data
            if os.write(self._fd, data) != len(data):
                raise OSError("the record was written in part")
        except OSError as error:
            self._failed = True
            logger.warning("prediction log: %s: %s", self._path, error)

    def _create(self) -> int:
        """Open the file with a lock. Its folder is created when it is missing."""
        for _ in range(50):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Never blocks: the caller holds the lock of the log.
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                flags = os.O_CREAT | os.O_APPEND
                return _locked(self._path, flags)
            time.sleep(0.001)  # a server that looks for leftover has the new file
        raise OSError("was removed while it was created")

    def close(self) -> None:
        """Close the file. Its records stay until `delete`, and other servers may write them."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def delete(self) -> None:
        """Delete the file, whose records are in the store. An error is logged."""
        try:
            # While it is locked: another server would write it again.
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("prediction log: %s is not deleted: %s", self._path, error)
        finally:
            self.close()


@dataclass(frozen=True, slots=True)
class Leftover:
    """A segment of a server that has ended."""

    name: str
    constants: dict[str, str]
    records: list[Record]
    file: SegmentFile


class Spool:
    """A folder with the segments of one server or of several. Only one thread may use it."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._ignored: set[Path] = set()
        self.damaged_files = 0
        """Files that could not be read, and are kept with the suffix `.damaged`."""
        self.dropped_records = 0
        """Records that were deleted for the size of the folder."""

    def file(self, name: str, constants: dict[str, str]) -> SegmentFile:
        """The file of the segment `name`. Its records have these `constants` in common."""
        return SegmentFile(self._folder / f"{name}{_SUFFIX}", constants)

    def leftover(self) -> Iterator[Leftover]:
        """The segments without a live owner, oldest first. Each is locked until it is closed."""
        for path in self._bounded(self._paths()):
            segment = self._adopt(path)
            if segment is None:
                continue
            try:
                yield segment
            finally:
                segment.file.close()
            if os.path.lexists(path):  # it is in the store, and could not be deleted
                self._ignored.add(path)

    def _paths(self) -> list[Path]:
        times: dict[Path, float] = {}
        try:
            entries = list(self._folder.iterdir())
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                logger.warning("prediction log: %s: %s", self._folder, error)
            return []
        for entry in entries:
            if entry.suffix == _SUFFIX and entry not in self._ignored:
                with contextlib.suppress(OSError):  # another server deleted it
                    times[entry] = entry.stat().st_mtime
        return sorted(times, key=lambda path: times[path])

    def _bounded(self, paths: list[Path]) -> list[Path]:
        """`paths` without the oldest segments beyond `max_bytes`, which are deleted."""
        if sum(_size(path) for path in paths) <= self._max_bytes:
            return paths
        size = 0  # of the segments without an owner
        kept = []
        for path in reversed(paths):
            segment = self._adopt(path)
            if segment is None:
                continue
            size += _size(path)
            if size <= self._max_bytes:
                kept.append(path)
                segment.file.close()
                continue
            logger.error(
                "prediction log: %d records in %s are deleted, since the folder is too large",
                len(segment.records), path,
            )  # fmt: skip
            self.dropped_records += len(segment.records)
            segment.file.delete()
        return kept[::-1]

    def _adopt(self, path: Path) -> Leftover | None:
        """The segment in `path`, locked; None if another server has it or it is unreadable."""
        try:
            fd = _locked(path, 0)
        except (BlockingIOError, FileNotFoundError):
            return None
        except (PermissionError, IsADirectoryError) as error:
            self._set_aside(path, error)
            return None
        except OSError as error:  # such as too many open files
            logger.warning("prediction log: %s: %s", path, error)
            return None
        try:
            constants, records = read_segment(path)
        except Exception as error:
            self._set_aside(path, error)
            os.close(fd)
            return None
        if not records:
            SegmentFile(path, fd=fd).delete()
            return None
        name = path.name.removesuffix(_SUFFIX)
        return Leftover(name, constants, records, SegmentFile(path, fd=fd))

    def _set_aside(self, path: Path, error: Exception) -> None:
        self.damaged_files += 1
        damaged = path.with_suffix(_DAMAGED)
        logger.error("prediction log: %s is unreadable and becomes %s: %s", path, damaged, error)
        try:
            path.rename(damaged)
        except OSError as problem:
            logger.error("prediction log: %s is not renamed: %s", path, problem)
            self._ignored.add(path)


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _locked(path: Path, flags: int) -> int:
    """Open and lock a file. Raises BlockingIOError, or FileNotFoundError if it was deleted."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(fd).st_nlink:
            raise FileNotFoundError(path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_segment(path: Path) -> tuple[dict[str, str], list[Record]]:
    """The constants and the complete records of a segment file.

    A record that was cut off was never answered. Raises ValueError for a file of another form.
    """
    data = path.read_bytes()
    if not data:  # the server was killed before its first record
        return {}, []
    position = _LENGTH.size + int.from_bytes(data[: _LENGTH.size], "little")
    constants = json.loads(data[_LENGTH.size : position])
    if not isinstance(constants, dict):
        raise ValueError("it does not begin with a JSON object")
    records = []
    while position + _HEAD.size <= len(data):
        *lengths, moment, latency = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        if position + sum(lengths) > len(data):
            break
        parts = []
        for length in lengths:
            parts.append(data[position : position + length])
            position += length
        records.append(Record(parts[0].decode(), moment, parts[1], parts[2], latency))
    return constants, records
