"""One pass of the quality service over a day of 100,000 predictions with 50 features.

The log and the labels are files in a folder, the database is SQLite. The pass runs in a process of
its own, whose CPU time and peak memory are the figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, progress

from pulumi_mlops.runtime.prediction_log import Record, to_parquet

ROWS_PER_FILE = 1000
FEATURES = 50
DAY = 1_795_564_800.0
PASS = """
import json, resource, sys, time
from pathlib import Path
from pulumi_mlops.runtime.quality.database import QualityDatabase
from pulumi_mlops.runtime.quality.service import QualityService
from pulumi_mlops.runtime.quality.settings import MonitoredEndpoint, QualitySettings
from pulumi_mlops.runtime.quality.store import SourceFolder

folder, now = Path(sys.argv[1]), float(sys.argv[2])
endpoint = MonitoredEndpoint(name="live", task="classification")
settings = QualitySettings(port=1, store="", database_url="", endpoints={"live": endpoint})
database = QualityDatabase(f"sqlite:///{folder}/database.sqlite")
service = QualityService(settings, database, SourceFolder(folder), clock=lambda: now)
started = time.process_time()
service.one_pass()
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu": time.process_time() - started, "kib": usage.ru_maxrss,
                  "errors": service.errors}))
"""


def one_day(smoke: bool) -> Iterator[Figure]:
    """CPU seconds and peak memory of the first pass, and CPU seconds of a pass with no new file."""
    predictions = 2 * ROWS_PER_FILE if smoke else 100_000
    with tempfile.TemporaryDirectory(prefix="bench-quality-") as name:
        folder = Path(name)
        progress(f"writing a log of {predictions} predictions")
        _write_day(folder, predictions)
        progress("the first pass")
        first = _pass(folder)
        yield Figure("first pass, CPU", first["cpu"], unit="s")
        yield Figure("first pass, peak memory", first["kib"] / 1024, 600, unit="MiB")
        yield Figure("pass without new files, CPU", _pass(folder)["cpu"], unit="s")
        size = (folder / "database.sqlite").stat().st_size
        yield Figure("database, bytes per prediction", size / predictions, unit="B")


def _write_day(folder: Path, predictions: int) -> None:
    """The log of a day in the layout of the model servers, and one label file for each hour."""
    random = np.random.default_rng(0)
    log = folder / "predictions/endpoint=live/version=1" / "date=2026-11-25"
    labels = folder / "labels/endpoint=live"
    for path in (log, labels):
        path.mkdir(parents=True)
    constants = {"endpoint": "live", "model": "m", "version": "1"}
    for file in range(predictions // ROWS_PER_FILE):
        values = random.normal(size=(ROWS_PER_FILE, FEATURES)).round(4)
        records, lines = [], ["id,label"]
        for index, row in enumerate(values):
            number = file * ROWS_PER_FILE + index
            inputs = {f"feature_{i}": [value] for i, value in enumerate(row.tolist())}
            answer = "a" if row[0] > 0 else "b"
            records.append(
                Record(
                    id=f"{number:032x}",
                    time=DAY + number * 86_000 / predictions,
                    inputs=json.dumps(inputs).encode(),
                    outputs=json.dumps([answer]).encode(),
                    latency_seconds=0.001,
                )
            )
            lines.append(f"{number:032x},{answer if number % 10 else 'b'}")
        (log / f"{file:06d}.parquet").write_bytes(to_parquet(records, constants))
        (labels / f"{file:06d}.csv").write_text("\n".join([*lines, ""]))


def _pass(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PASS, str(folder), str(DAY + 2 * 86_400)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout)
    if result["errors"]:
        raise RuntimeError(f"the pass failed: {result['errors']}")
    return result
