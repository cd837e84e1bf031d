"""The wait for a program on this machine."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.targets.local.host import health

from .provider_fixtures import make_context


def test_a_long_wait_shows_the_elapsed_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal nothing else shows that an update is not stuck."""
    seconds = itertools.count(0, 5)
    lines: list[str] = []

    def log(line: str, **_: Any) -> None:
        lines.append(line)

    ctx = make_context(tmp_path, "mlops:local:Process", log=log)  # type: ignore[arg-type]
    answers = iter([*["starting"] * 8, None])
    monkeypatch.setattr(health, "probe", lambda check: next(answers))
    monkeypatch.setattr(health.time, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(health.time, "sleep", lambda pause: None)
    health.wait(ctx, {"web": health.HealthCheck(1)}, 600, lambda: None)
    waits = lines[:-1]
    assert len(waits) > 2 and waits[0] == "waiting for web (10 s): starting"
    assert len(set(waits)) == len(waits), "each line has another elapsed time"
    assert lines[-1] == "ready"
