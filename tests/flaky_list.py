"""A pytest plugin: reruns a failed test once if `flaky.toml` lists it, and reports the reruns."""

from __future__ import annotations

import datetime
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Entry:
    """A test that is known to fail sometimes."""

    test: str
    reason: str
    since: datetime.date

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise pytest.UsageError(f"flaky.toml: {self.test} has no reason")


def _entries() -> list[Entry]:
    document = tomllib.loads(Path(__file__).with_name("flaky.toml").read_text())
    try:
        return [Entry(**entry) for entry in document.get("flaky", [])]
    except TypeError as error:
        raise pytest.UsageError(f"flaky.toml: {error}") from error


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pytest-rerunfailures rerun the listed tests."""
    listed = {entry.test for entry in _entries()}
    for item in items:
        if item.nodeid in listed:
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the list, and which of its tests were rerun."""
    reruns = [report.nodeid for report in terminalreporter.getreports("rerun")]
    terminalreporter.section("known flaky tests (tests/flaky.toml)")
    for entry in _entries():
        rerun = "RERUN " if entry.test in reruns else ""
        terminalreporter.line(f"{rerun}{entry.test}: {entry.reason} (since {entry.since})")
    terminalreporter.line(f"listed: {len(_entries())}, rerun: {len(set(reruns))}")
