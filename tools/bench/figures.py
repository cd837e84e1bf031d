"""Figures and their limits, and the report that prints and saves each one as it is measured."""

from __future__ import annotations

import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured figure. Without a limit it is printed and saved, and decides nothing."""

    name: str
    value: float
    limit: float | None = None
    at_most: bool = True
    """Whether `limit` is an upper bound; else it is a lower bound."""
    unit: str = "ratio"
    samples: Sequence[float] = ()
    interval: Sequence[float] = ()
    """The lower and the upper bound of the 95 % confidence interval, if there is one."""

    @property
    def met(self) -> bool:
        """Whether the limit is met."""
        if self.limit is None:
            return True
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def bound(self) -> str:
        """The limit as text; empty without one."""
        if self.limit is None:
            return ""
        return f"at {'most' if self.at_most else 'least'} {self.limit:g}"


Part = Callable[[bool], Iterator[Figure]]
"""A part of the benchmark. Its argument is whether this is a smoke run: the smallest sizes that
still execute every step. It yields each figure as soon as it is measured."""


def progress(message: str) -> None:
    """Print a line on stderr, since set-up takes minutes."""
    print(f"  {message}", file=sys.stderr, flush=True)


def median_of_ratios(
    name: str, ours: Sequence[float], reference: Sequence[float], limit: float | None = None
) -> Figure:
    """Ours over the reference, round by round; the limit is a lower bound."""
    samples = [round(a / b, 4) for a, b in zip(ours, reference, strict=True)]
    return Figure(name, statistics.median(samples), limit, at_most=False, samples=samples)


def ratio_of_medians(
    name: str, ours: Sequence[float], reference: Sequence[float], limit: float | None = None
) -> Figure:
    """Our median over the reference's; the limit is an upper bound.

    A disturbance of one command of a pair would count twice in a median of ratios.
    """
    samples = [round(a / b, 4) for a, b in zip(ours, reference, strict=True)]
    value = statistics.median(ours) / statistics.median(reference)
    return Figure(name, round(value, 4), limit, samples=samples)


class Report:
    """The figures of a run, printed and written to a file one by one.

    A smoke run uses sizes at which figures mean nothing: they are marked so, and limits are not
    judged.
    """

    def __init__(self, file: Path, *, smoke: bool) -> None:
        self._file = file
        self._smoke = smoke
        self._complete = False
        self._parts: dict[str, dict[str, Any]] = {}

    def run(self, parts: Mapping[str, Part]) -> int:
        """Run the parts one after the other. Returns the exit code.

        It is 0 when every part ran to its end and every limit is met. A part that fails costs only
        its own remaining figures.
        """
        started = time.monotonic()
        if self._smoke:
            print("smoke run: the figures mean nothing and limits are not judged", flush=True)
        for name, part in parts.items():
            print(f"{name}:", flush=True)
            with self._part(name):
                for figure in part(self._smoke):
                    self._add(name, figure)
        self._complete = True
        self._write()
        return self._summary(time.monotonic() - started)

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        self._parts[name] = {"seconds": None, "error": None, "figures": {}}
        started = time.monotonic()
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self._parts[name]["error"] = f"{type(error).__name__}: {error}"
            print(f"  {name} FAILED: {type(error).__name__}", flush=True)
        finally:
            self._parts[name]["seconds"] = round(time.monotonic() - started, 1)
            self._write()

    def _add(self, part: str, figure: Figure) -> None:
        saved = asdict(figure)
        del saved["name"]
        self._parts[part]["figures"][figure.name] = saved | {
            "met": None if self._smoke or figure.limit is None else figure.met
        }
        unit = "" if figure.unit == "ratio" else f" {figure.unit}"
        if figure.interval:
            unit += " [{:.3g}, {:.3g}]".format(*figure.interval)
        verdict = "  not meaningful" if self._smoke else "" if figure.met else "  MISSED"
        print(f"  {figure.name:<62} {figure.value:>8.2f}{unit:<4}  {figure.bound}{verdict}",
              flush=True)  # fmt: skip
        self._write()

    def _write(self) -> None:
        content = {"smoke": self._smoke, "complete": self._complete, "parts": self._parts}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(content, indent=2) + "\n")

    def _summary(self, seconds: float) -> int:
        figures = [
            (f"{part}: {name}", figure["met"])
            for part, found in self._parts.items()
            for name, figure in found["figures"].items()
        ]
        failed = [part for part, found in self._parts.items() if found["error"] is not None]
        missed = [name for name, met in figures if met is False]
        print(f"{len(figures)} figures in {seconds:.0f} s: {self._file}")
        for title, names in (("failed parts", failed), ("missed limits", missed)):
            if names:
                print(f"{title}: {'; '.join(names)}")
        return 1 if failed or missed else 0
