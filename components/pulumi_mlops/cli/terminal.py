"""Terminal output: colours, tables, durations and sizes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"))


class Style:
    """Colours for a stream: on a terminal, unless NO_COLOR (no-color.org) is set."""

    def __init__(self, stream: TextIO) -> None:
        self.enabled = (
            stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        )

    def good(self, text: str) -> str:
        """A good state."""
        return self._painted(text, "32")

    def bad(self, text: str) -> str:
        """A bad state."""
        return self._painted(text, "31")

    def unsure(self, text: str) -> str:
        """A warning or note."""
        return self._painted(text, "33")

    def title(self, text: str) -> str:
        """A heading."""
        return self._painted(text, "1")

    def quiet(self, text: str) -> str:
        """A detail."""
        return self._painted(text, "2")

    def _painted(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.enabled and text else text


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], style: Style) -> list[str]:
    """Lines with aligned columns, without empty columns."""
    shown = [index for index in range(len(heads)) if any(row[index] for row in rows)]
    widths = {index: max(len(row[index]) for row in [heads, *rows]) for index in shown}

    def line(row: Sequence[str]) -> str:
        return "  ".join(f"{row[index]:<{widths[index]}}" for index in shown).rstrip()

    return [style.quiet(line(heads)), *(line(row) for row in rows)]


def duration(seconds: float) -> str:
    """Seconds as `45 s`, `12 min`, `3 h 20 min`, `5 d 2 h`."""
    whole = max(0, round(seconds))
    for index, (step, unit) in enumerate(_STEPS):
        if whole >= step:
            text = f"{whole // step} {unit}"
            if index + 1 < len(_STEPS):
                smaller, name = _STEPS[index + 1]
                if rest := whole % step // smaller:
                    text += f" {rest} {name}"
            return text
    return f"{whole} s"


def size(count: float) -> str:
    """Bytes as `117 MiB`."""
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def marked(lines: list[str], healthy: list[bool], style: Style) -> list[str]:
    """The lines of a table, each row with a mark: healthy or not."""
    marks = [style.good("✓") if good else style.bad("✗") for good in healthy]
    if not _can_show("✓✗"):
        marks = ["+" if good else "!" for good in healthy]
    return [f"  {lines[0]}", *(f"{m} {line}" for m, line in zip(marks, lines[1:], strict=True))]


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def ago(started: float | None) -> str:
    """The time since `started`, as `5 min ago`; empty for None."""
    return f"{duration(time.time() - started)} ago" if started is not None else ""


def line_printer(names: Sequence[str], style: Style) -> Callable[[str, str], None]:
    """A function that prints a line; with several names, after the name of its log."""
    width = max(map(len, names))

    def show(name: str, line: str) -> None:
        prefix = style.quiet(f"{name:<{width}} | ") if len(names) > 1 else ""
        sys.stdout.write(f"{prefix}{line}\n")

    return show
