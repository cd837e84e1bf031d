"""`mlops logs`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ..provider.local.stackdir import StackDir
from .selection import (
    ClusterStack,
    UsageError,
    component_of,
    find_target,
    matching,
    named_stack,
    project_folder,
)
from .terminal import Style, duration, size, table

_POLL_SECONDS = 0.2
_BLOCK = 65_536


def run(options: argparse.Namespace) -> int:
    """List the logs, show the end of one, or follow it until interrupted."""
    stack = find_target(project_folder(options.project), named_stack(options.stack))
    if isinstance(stack, ClusterStack):
        from .cluster import logs  # noqa: PLC0415 - a stack of this machine needs none of it

        return logs.run(stack, options)
    known = logs_of(stack.root)
    if options.name is None:
        print("\n".join(listing(known, Style(sys.stdout))))
        return 0
    files = {name: known[name] for name in select(options.name, sorted(known))}
    if options.previous:
        if options.follow:
            raise UsageError("--previous is not written to any more: leave out --follow")
        files = {name: previous(name, file) for name, file in files.items()}
    followed = {name: Followed(file, options.lines) for name, file in files.items()}
    show = shower(list(files), Style(sys.stdout))
    try:
        while True:
            for name, log in followed.items():
                for line in log.new():
                    show(name, line)
            if not options.follow:
                break
            sys.stdout.flush()
            time.sleep(_POLL_SECONDS)
            # A changed version of a model runs in a process of its own, with a log of its own.
            now = logs_of(stack.root)
            if fresh := [name for name in matching(options.name, now) if name not in followed]:
                followed |= {name: Followed(now[name], sys.maxsize) for name in fresh}
                show = shower(list(followed), Style(sys.stdout))
    except KeyboardInterrupt:
        pass  # this is how following ends
    for name, log in followed.items():
        if rest := log.rest():
            show(name, rest)
    return 0


def logs_of(root: StackDir) -> dict[str, Path]:
    """Every log by the name of what it belongs to, gone or not, and the supervisor's own."""
    found = {file.name.removesuffix(".log"): file for file in (root.path / "logs").glob("*.log")}
    if (own := root.path / "supervisor" / "supervisord.log").exists():
        found["supervisord"] = own
    return found


def listing(known: dict[str, Path], style: Style) -> list[str]:
    """What has logs, as a table."""
    if not known:
        return ["There are no logs."]
    rows = []
    for name, file in sorted(known.items()):
        found = file.stat()
        rows.append(
            [name, size(found.st_size), f"{duration(time.time() - found.st_mtime)} ago", str(file)]
        )
    return table(["NAME", "SIZE", "WRITTEN", "FILE"], rows, style)


def select(name: str, known: Sequence[str]) -> list[str]:
    """The logs that `name` means: one, or those of one component.

    Raises UsageError naming what there is.
    """
    found = matching(name, known)
    if not found:
        raise UsageError(f"nothing called {name!r} has a log: {', '.join(known) or 'none has'}")
    if len({component_of(each) for each in found}) > 1:
        raise UsageError(f"{name!r} may be any of {', '.join(found)}: say more of the name")
    return found


def previous(name: str, file: Path) -> Path:
    """The log before. Raises UsageError when there is none."""
    before = file.with_name(f"{file.name}.1")
    if not before.exists():
        raise UsageError(f"{name} has no log before the one of now ({file})")
    return before


class Followed:
    """A log that is read from its last lines on, through rotation and new runs."""

    def __init__(self, path: Path, lines: int) -> None:
        self._path = path
        self._rest = b""
        self._file: BinaryIO | None = self._open()
        if self._file is not None:
            self._file.seek(_start_of_last(self._file, lines))

    def new(self) -> Iterator[str]:
        """The whole lines that came since the last call."""
        while True:
            yield from self._read()
            if not self._moved():
                return
            # What was written between the reading above and the rotation.
            yield from self._read()
            if rest := self.rest():
                yield rest
            if self._file is not None:
                self._file.close()
            self._file = self._open()

    def rest(self) -> str:
        """What came after the last whole line."""
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

    def _moved(self) -> bool:
        """Whether the path is another file now, or the same one, emptied and written anew."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        if self._file is None or now.st_size < self._file.tell():
            return True
        ours = os.fstat(self._file.fileno())
        return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino)


def _start_of_last(file: BinaryIO, lines: int) -> int:
    """Where the last `lines` lines of `file` begin."""
    end = position = file.seek(0, os.SEEK_END)
    if not end or not lines:
        return end
    # The line break that ends the last line is not one between two lines.
    file.seek(end - 1)
    left = lines + (file.read(1) == b"\n")
    while position > 0 and left > 0:
        begin = max(0, position - _BLOCK)
        file.seek(begin)
        block = file.read(position - begin)
        at = len(block)
        while left > 0 and (at := block.rfind(b"\n", 0, at)) >= 0:
            left -= 1
            if left == 0:
                return begin + at + 1
        position = begin
    return 0


def shower(names: Sequence[str], style: Style) -> Callable[[str, str], None]:
    """What prints a line; with the name of what wrote it where there are several."""
    width = max(map(len, names))

    def show(name: str, line: str) -> None:
        prefix = style.quiet(f"{name:<{width}} | ") if len(names) > 1 else ""
        sys.stdout.write(f"{prefix}{line}\n")

    return show
