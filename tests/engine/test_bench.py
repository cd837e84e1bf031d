"""A smoke run of the benchmark: every part runs to its end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "tools" / "bench" / "run.py"

pytestmark = pytest.mark.engine


@pytest.mark.timeout(1800)
def test_every_part_runs_to_its_end(engine: None, tmp_path: Path) -> None:
    listed = subprocess.run(
        [sys.executable, str(RUN), "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    file = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, str(RUN), "--smoke", "--output", str(file)],
        capture_output=True, text=True, check=False, timeout=1700,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-8000:]
    found = json.loads(file.read_text())
    assert found["smoke"] and found["complete"]
    assert list(found["parts"]) == listed
    for name, part in found["parts"].items():
        assert part["figures"], f"{name} measures nothing"
        assert all(figure["value"] is not None for figure in part["figures"].values())


def test_an_unknown_part_is_refused_with_the_names_of_all() -> None:
    done = subprocess.run(
        [sys.executable, str(RUN), "no-such-part"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "unknown part no-such-part: choose from serving, " in done.stderr
