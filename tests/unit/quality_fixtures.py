"""A quality service on a folder, with a clock that tests move, and a log written as servers do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pulumi_mlops.runtime.prediction_log import Record, to_parquet
from pulumi_mlops.runtime.quality.database import QualityDatabase
from pulumi_mlops.runtime.quality.ingest import day
from pulumi_mlops.runtime.quality.service import QualityService
from pulumi_mlops.runtime.quality.settings import MonitoredEndpoint, QualitySettings
from pulumi_mlops.runtime.quality.store import SourceFolder

START = 1_795_600_800.0  # a multiple of 3600
WINDOW = 3600.0


def endpoint(**changed: Any) -> MonitoredEndpoint:
    values: dict[str, Any] = {"name": "live", "task": "classification", "label": "species"}
    return MonitoredEndpoint(**{**values, **changed})


class World:
    """The store, the database and the service; `clock` is the time of day."""

    def __init__(self, folder: Path, *endpoints: MonitoredEndpoint, url: str | None = None) -> None:
        self.folder = folder
        self.clock = START
        self.endpoints = endpoints or (endpoint(),)
        self.url = url or f"sqlite:///{folder}/database.sqlite"
        self.files = 0
        self.service = self.restarted()

    def restarted(self) -> QualityService:
        """A service as after kill -9: nothing of the previous one but its database."""
        self.service = QualityService(
            QualitySettings(
                port=1, store=str(self.folder), database_url=self.url,
                endpoints={each.name: each for each in self.endpoints}, interval=5,
            ),
            QualityDatabase(self.url),
            SourceFolder(self.folder),
            clock=lambda: self.clock,
        )  # fmt: skip
        return self.service

    def log(
        self, rows: Sequence[tuple[str, float, dict[str, Any], Any]], version: str = "1"
    ) -> Path:
        """Write one file of the prediction log: rows of id, time, inputs and prediction."""
        name = self.endpoints[0].name
        records = [
            Record(
                id=each, time=time, latency_seconds=0.01,
                inputs=json.dumps({key: [value] for key, value in inputs.items()}).encode(),
                outputs=json.dumps([answer]).encode(),
            )
            for each, time, inputs, answer in rows
        ]  # fmt: skip
        self.files += 1
        constants = {"endpoint": name, "model": "penguins", "version": version}
        return self.put(
            f"predictions/endpoint={quote(name, safe='')}/version={version}"
            f"/date={day(rows[0][1])}/{self.files:06d}.parquet",
            to_parquet(records, constants),
        )

    def put(self, key: str, content: bytes) -> Path:
        file = self.folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def label(self, **labels: Any) -> dict[str, Any]:
        items = [{"id": each, "label": label} for each, label in labels.items()]
        return self.service.accept(self.endpoints[0], items).to_json()

    def pass_at(self, time: float) -> None:
        """One pass at a time. Raises AssertionError if it failed."""
        self.clock = time
        self.service.one_pass()
        assert self.service.errors == {}

    def quality(self, version: str = "1") -> list[dict[str, Any]]:
        """The windows of a version, oldest first."""
        from pulumi_mlops.runtime.quality import results  # noqa: PLC0415

        each = self.endpoints[0]
        with self.service.database.reading() as connection:
            document = results.quality(connection, each, self.service.delay(each))
        (found,) = [part for part in document["versions"] if part["version"] == version]
        return list(reversed(found["windows"]))

    def counts(self) -> dict[str, int]:
        from pulumi_mlops.runtime.quality import database as db  # noqa: PLC0415

        with self.service.database.reading() as connection:
            return db.counts(connection, self.endpoints[0].name)
