"""`mlops logs` for the local target."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ....cli.selection import Stack, UsageError, matching, select_logs
from ....cli.terminal import Style, duration, line_printer, size, table
from ....stackdir import StackDir

_POLL_SECONDS = 0.2
_BLOCK = 65_536


def run(stack: Stack, name: str | None, *, follow: bool, lines: int, previous: bool) -> int:
    """List the logs, show the last lines of the selected ones, or follow them until Ctrl-C."""
    known = logs_of(stack.root)
    if name is None:
        print("\n".join(listing(known, Style(sys.stdout))))
        return 0
    files = {each: known[each] for each in select_logs(name, sorted(known))}
    if previous:
        if follow:
            raise UsageError("--previous shows a log that has ended: remove --follow")
        files = {each: previous_log(each, file) for each, file in files.items()}
    followed = {each: Followed(file, lines) for each, file in files.items()}
    show = line_printer(list(files), Style(sys.stdout))
    try:
        while True:
            for each, log in followed.items():
                for line in log.new_lines():
                    show(each, line)
            if not follow:
                break
            sys.stdout.flush()
            time.sleep(_POLL_SECONDS)
            # An update of a model version starts a new process with a new log.
            now = logs_of(stack.root)
            if fresh := [each for each in matching(name, now) if each not in followed]:
                followed |= {each: Followed(now[each], sys.maxsize) for each in fresh}
                show = line_printer(list(followed), Style(sys.stdout))
    except KeyboardInterrupt:
        pass  # the way to end --follow
    for each, log in followed.items():
        if rest := log.rest():
            show(each, rest)
    return 0


def logs_of(root: StackDir) -> dict[str, Path]:
    """All logs by the name of their program or job, and the log of supervisord."""
    found = {file.name.removesuffix(".log"): file for file in (root.path / "logs").glob("*.log")}
    if (own := root.path / "supervisor" / "supervisord.log").exists():
        found["supervisord"] = own
    return found


def listing(known: dict[str, Path], style: Style) -> list[str]:
    """A table of the logs."""
    if not known:
        return ["There are no logs."]
    rows = []
    for name, file in sorted(known.items()):
        found = file.stat()
        rows.append(
            [name, size(found.st_size), f"{duration(time.time() - found.st_mtime)} ago", str(file)]
        )
    return table(["NAME", "SIZE", "WRITTEN", "FILE"], rows, style)


def previous_log(name: str, file: Path) -> Path:
    """The log of the previous run. Raises UsageError if there is none."""
    previous = file.with_name(f"{file.name}.1")
    if not previous.exists():
        raise UsageError(f"{name} has no previous log; the current one is {file}")
    return previous


class Followed:
    """Reads a log from its last lines on, through rotations and new runs."""

    def __init__(self, path: Path, lines: int) -> None:
        self._path = path
        self._rest = b""
        self._file: BinaryIO | None = self._open()
        if self._file is not None:
            self._file.seek(_start_of_last(self._file, lines))

    def new_lines(self) -> Iterator[str]:
        """The complete lines since the last call."""
        while True:
            yield from self._read()
            if not self._rotated():
                return
            # Lines that were written between the last read and the rotation.
            yield from self._read()
            if rest := self.rest():
                yield rest
            if self._file is not None:
                self._file.close()
            self._file = self._open()

    def rest(self) -> str:
        """The incomplete last line."""
        rest, self._rest = self._rest, b""
        return rest.decode(errors="replace")

    def _open(self) -> BinaryIO | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return None

    def _read(self) -> Iterator[str]:
        while self._file is not None and (block := self._file.read(_BLOCK)):
            *whole, self._rest = (self._rest + block).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")

    def _rotated(self) -> bool:
        """Whether the log was rotated: the path is a new file, or the file was truncated."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        if self._file is None or now.st_size < self._file.tell():
            return True
        ours = os.fstat(self._file.fileno())
        return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino)


def _start_of_last(file: BinaryIO, lines: int) -> int:
    """The offset of the last `lines` lines of `file`."""
    end = position = file.seek(0, os.SEEK_END)
    if not end or not lines:
        return end
    # The line break at the end of the file does not start another line.
    file.seek(end - 1)
    missing = lines + (file.read(1) == b"\n")
    while position > 0 and missing > 0:
        begin = max(0, position - _BLOCK)
        file.seek(begin)
        block = file.read(position - begin)
        at = len(block)
        while missing > 0 and (at := block.rfind(b"\n", 0, at)) >= 0:
            missing -= 1
            if missing == 0:
                return begin + at + 1
        position = begin
    return 0
