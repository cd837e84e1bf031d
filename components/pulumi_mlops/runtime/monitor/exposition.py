"""Prometheus' text format 0.0.4: parsing, relabelling, merging of targets, rendering.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ . ``prometheus_client`` parses
it. Rendering is done here, because its data model renames counters and the scraped names must stay.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels: TypeAlias = tuple[tuple[str, str], ...]
_COUNTER = re.compile(r"^#[ \t]+TYPE[ \t]+(\S+)[ \t]+counter[ \t]*$", re.MULTILINE)
_TYPES = ("counter", "gauge", "histogram", "summary", "untyped")


class ParseError(ValueError):
    """The response of a target is not in the text format."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: a name, labels, a value and an optional time in unix seconds."""

    name: str
    labels: dict[str, str]
    value: float
    timestamp: float | None = None

    @property
    def key(self) -> Labels:
        """The labels as a dictionary key, independent of their order."""
        return tuple(sorted(self.labels.items()))


@dataclass(slots=True)
class Family:
    """The samples of one ``# TYPE`` line, with their names as scraped."""

    name: str
    type: str
    help: str
    samples: list[Sample] = field(default_factory=list)


def parse(text: str) -> list[Family]:
    """Parse an exposition. Raises :class:`ParseError`."""
    declared = set(_COUNTER.findall(text))
    families = []
    try:
        for metric in text_string_to_metric_families(text):
            name, samples = (
                metric.name,
                [
                    Sample(s.name, s.labels, float(s.value), _seconds(s.timestamp))
                    for s in metric.samples
                ],
            )
            if metric.type == "counter":
                total = name + "_total"
                if total in declared:
                    name = total
                else:  # prometheus_client appended _total to a counter without it
                    samples = [replace(s, name=s.name.removesuffix("_total")) for s in samples]
            kind = metric.type if metric.type in _TYPES else "untyped"
            families.append(Family(name, kind, metric.documentation, samples))
    except (ValueError, KeyError, IndexError) as error:
        detail = " ".join(str(error).split())[:120] or "a malformed line"
        raise ParseError(f"not Prometheus text format: {detail}") from None
    return families


def _seconds(timestamp: object) -> float | None:
    return float(timestamp) if isinstance(timestamp, int | float) else None


def relabel(labels: Mapping[str, str], identity: Mapping[str, str]) -> dict[str, str]:
    """Add the labels of a target. A sample's label of the same name becomes ``exported_<name>``.

    Prometheus does the same with ``honor_labels: false``.
    """
    renamed = {}
    for name, value in labels.items():
        new = name
        while new in identity or (new != name and new in labels):
            new = f"exported_{new}"
        renamed[new] = value
    return {**renamed, **identity}


def merge(sources: Iterable[tuple[Mapping[str, str], Iterable[Family]]]) -> list[Family]:
    """Merge the families of many targets: each name occurs once, sorted by name.

    The type is that of the first target with the family, the help the first that is not empty.
    Samples of a target with a different type become families of their own names, by default
    untyped.
    """
    merged: dict[str, Family] = {}
    for identity, families in sources:
        for family in families:
            known = merged.setdefault(family.name, Family(family.name, family.type, family.help))
            known.help = known.help or family.help
            for sample in family.samples:
                home = known
                if known.type != family.type:
                    home = merged.setdefault(sample.name, Family(sample.name, "untyped", ""))
                home.samples.append(replace(sample, labels=relabel(sample.labels, identity)))
    return [merged[name] for name in sorted(merged)]


def render(families: Iterable[Family]) -> str:
    """The families as text."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        if family.help:
            text = family.help.replace("\\", r"\\").replace("\n", r"\n")
            lines.append(f"# HELP {family.name} {text}")
        lines.append(f"# TYPE {family.name} {family.type}")
        lines.extend(map(_line, family.samples))
    return "".join(line + "\n" for line in lines)


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escape(value)}"' for name, value in sample.labels.items())
    time = "" if sample.timestamp is None else f" {round(sample.timestamp * 1000)}"
    braces = f"{{{labels}}}" if labels else ""
    value = floatToGoString(sample.value)  # type: ignore[no-untyped-call]
    return f"{sample.name}{braces} {value}{time}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
