"""The results of an endpoint as JSON documents, from the database."""

from __future__ import annotations

import math
from typing import Any

import sqlalchemy as sa

from pulumi_mlops.runtime.quality import database as db
from pulumi_mlops.runtime.quality import evaluate
from pulumi_mlops.runtime.quality.delays import LabelDelay
from pulumi_mlops.runtime.quality.settings import MonitoredEndpoint


def quality(
    connection: sa.Connection, endpoint: MonitoredEndpoint, delay: LabelDelay, limit: int = 24
) -> dict[str, Any]:
    """The last ``limit`` windows of each version, newest first, and the counts of labels."""
    return {
        "endpoint": endpoint.name,
        "task": endpoint.task,
        "window_seconds": endpoint.window,
        "counts": db.counts(connection, endpoint.name),
        "label_delay_seconds": delay_document(delay),
        "versions": [
            {
                "version": version,
                "windows": [_window(row) for row in windows(connection, endpoint, version, limit)],
            }
            for version in versions(connection, endpoint)
        ],
    }


def drift(connection: sa.Connection, endpoint: MonitoredEndpoint) -> dict[str, Any]:
    """The drift of the last window with enough samples of each version, and concept drift."""
    return {
        "endpoint": endpoint.name,
        "alpha": endpoint.drift_alpha,
        "min_samples": endpoint.min_samples,
        "versions": [
            {
                "version": version,
                "window": latest_drift(connection, endpoint, version),
                "concept": evaluate.concept_drift(connection, endpoint, version),
            }
            for version in versions(connection, endpoint)
        ],
    }


def versions(connection: sa.Connection, endpoint: MonitoredEndpoint) -> list[str]:
    """The versions with predictions, newest first."""
    table = db.windows.c
    rows = connection.execute(
        sa.select(table.version).where(table.endpoint == endpoint.name).distinct()
    )
    return sorted(
        (row.version for row in rows),
        key=lambda version: (not version.isdecimal(), -int(version) if version.isdecimal() else 0,
                             version),
    )  # fmt: skip


def windows(
    connection: sa.Connection,
    endpoint: MonitoredEndpoint,
    version: str,
    limit: int,
    *,
    final: bool = False,
) -> list[Any]:
    """The last windows of a version, newest first."""
    table = db.windows.c
    query = sa.select(db.windows).where(table.endpoint == endpoint.name, table.version == version)
    if final:
        query = query.where(table.state == "final")
    return list(connection.execute(query.order_by(table.start.desc()).limit(limit)).all())


def latest_drift(
    connection: sa.Connection, endpoint: MonitoredEndpoint, version: str
) -> dict[str, Any] | None:
    """The drift of the last window that was tested; None if none was."""
    for row in windows(connection, endpoint, version, 100):
        if row.drift and row.drift.get("features"):
            return {"start": row.start, "end": row.end, **row.drift}
    return None


def delay_document(delay: LabelDelay) -> dict[str, Any]:
    """The delay as JSON; null for what is not known yet."""
    values = {"median": delay.median, "p95": delay.p95, "complete": delay.complete}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _window(row: Any) -> dict[str, Any]:
    return {
        "start": row.start,
        "end": row.end,
        "state": row.state,
        "revision": row.revision,
        "predictions": row.predictions,
        "labels": row.labels,
        "coverage": row.labels / row.predictions if row.predictions else None,
        **(row.quality or {"count": 0, "metrics": {}, "slices": {}}),
    }
