"""Evaluation of windows: when each one is final, its quality and its drift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from pulumi_mlops.runtime.quality import database as db
from pulumi_mlops.runtime.quality import drift, evaluation, ingest
from pulumi_mlops.runtime.quality.delays import LabelDelay, observed_delay
from pulumi_mlops.runtime.quality.settings import MonitoredEndpoint

MAX_ROWS = 100_000
"""Rows of a window that its metrics are computed from: a random sample of a larger window."""
MAX_SLICE_VALUES = 20
DELAY_SAMPLE = 5000
CONCEPT_ROWS = 10_000
UNKNOWN_AFTER = 86_400.0
"""Seconds after which a label without a prediction is one of an unknown id."""


def label_delay(connection: sa.Connection, endpoint: MonitoredEndpoint, now: float) -> LabelDelay:
    """The delay of labels, from a random sample of the predictions within the horizon."""
    p, matched = db.predictions, _with_labels()
    rows = connection.execute(
        sa.select(p.c.time, db.labels.c.received)
        .select_from(p.outerjoin(db.labels, matched))
        .where(p.c.endpoint == endpoint.name)
        .order_by(p.c.rank)
        .limit(DELAY_SAMPLE)
    ).all()
    return observed_delay(
        [max(row.received - row.time, 0.0) for row in rows if row.received is not None],
        [now - row.time for row in rows if row.received is None],
        max((now - row.time for row in rows), default=0.0),
    )


def evaluate_windows(
    connection: sa.Connection,
    endpoint: MonitoredEndpoint,
    delay: LabelDelay,
    now: float,
    grace: float,
) -> int:
    """Evaluate the windows of an endpoint that are over. Returns the number of new results."""
    table = db.windows.c
    rows = connection.execute(
        sa.select(db.windows)
        .where(
            table.endpoint == endpoint.name,
            table.end <= now - grace,
            sa.or_(table.changed, table.state.in_(("open", "waiting")), table.drift.is_(sa.null())),
        )
        .order_by(table.start)
    ).all()
    results = 0
    first = horizon(connection, endpoint, now)
    for window in rows:
        if window.start < first:
            _close(connection, window)
            continue
        values: dict[str, Any] = {}
        if window.drift is None:
            values["drift"] = _drift(connection, endpoint, window)
        evaluated = window.state in ("final", "insufficient")
        if evaluated or now - window.end >= delay.complete:
            if window.changed or not evaluated:
                values |= _evaluated(connection, endpoint, window, now)
                results += 1
        elif window.changed or window.state == "open":
            values |= {**_coverage(connection, endpoint, window), "state": "waiting"}
        if values:
            connection.execute(db.windows.update().where(_is(window)).values(**values))
    return results


def _close(connection: sa.Connection, window: Any) -> None:
    """End the evaluation of a window beyond the horizon, whose predictions are deleted."""
    values: dict[str, Any] = {"changed": False, "drift": window.drift or {}}
    if window.state in ("open", "waiting"):
        values["state"] = "insufficient"
    connection.execute(db.windows.update().where(_is(window)).values(**values))


def _is(window: Any) -> sa.ColumnElement[bool]:
    table = db.windows.c
    return sa.and_(
        table.endpoint == window.endpoint,
        table.version == window.version,
        table.start == window.start,
    )


def _with_labels() -> sa.ColumnElement[bool]:
    p, labels = db.predictions.c, db.labels.c
    return sa.and_(labels.endpoint == p.endpoint, labels.id == p.id, labels.row == p.row)


def _in_window(window: Any) -> sa.ColumnElement[bool]:
    p = db.predictions.c
    return sa.and_(
        p.endpoint == window.endpoint, p.version == window.version, p.window == window.start
    )


def _coverage(
    connection: sa.Connection, endpoint: MonitoredEndpoint, window: Any
) -> dict[str, Any]:
    p = db.predictions
    predictions, labels = connection.execute(
        sa.select(sa.func.count(), sa.func.count(db.labels.c.label))
        .select_from(p.outerjoin(db.labels, _with_labels()))
        .where(_in_window(window))
    ).one()
    return {"predictions": predictions, "labels": labels, "changed": False}


def _evaluated(
    connection: sa.Connection, endpoint: MonitoredEndpoint, window: Any, now: float
) -> dict[str, Any]:
    """The new values of a window with enough time for its labels."""
    values = _coverage(connection, endpoint, window)
    share = values["labels"] / values["predictions"] if values["predictions"] else 0.0
    enough = values["labels"] > 0 and share >= endpoint.min_coverage
    quality = _quality(connection, endpoint, window) if enough else None
    return {
        **values,
        "quality": quality,
        "state": "final" if enough else "insufficient",
        "revision": window.revision + 1,
        "evaluated": now,
    }


def _quality(connection: sa.Connection, endpoint: MonitoredEndpoint, window: Any) -> dict[str, Any]:
    p = db.predictions
    rows = connection.execute(
        sa.select(p.c.predicted, p.c.scores, p.c.slices, db.labels.c.label)
        .select_from(p.join(db.labels, _with_labels()))
        .where(_in_window(window))
        .order_by(p.c.rank)
        .limit(MAX_ROWS)
    ).all()
    return {
        "count": len(rows),
        "metrics": metrics_of(endpoint, rows),
        "slices": {
            f"{name}={value}": {"count": len(part), "metrics": metrics_of(endpoint, part)}
            for name in endpoint.slices
            for value, part in _by_value(rows, name).items()
        },
    }


def _by_value(rows: Sequence[Any], name: str) -> dict[str, list[Any]]:
    """The rows of the most frequent values of a slice."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        if row.slices and name in row.slices:
            found.setdefault(row.slices[name], []).append(row)
    frequent = sorted(found, key=lambda value: (-len(found[value]), value))[:MAX_SLICE_VALUES]
    return {value: found[value] for value in sorted(frequent)}


def metrics_of(endpoint: MonitoredEndpoint, rows: Sequence[Any]) -> dict[str, dict[str, float]]:
    """The metrics of labelled rows as JSON."""
    if endpoint.task == "regression":
        found = evaluation.regression(
            [float(row.label) for row in rows], [float(row.predicted) for row in rows]
        )
    else:
        found = evaluation.classification(
            [row.label for row in rows],
            [row.predicted for row in rows],
            [row.scores for row in rows],
            endpoint.positive,
        )
    return {
        name: estimate.to_json()
        for name, estimate in found.items()
        if all(map(math.isfinite, (estimate.value, estimate.low, estimate.high)))
    }


def _drift(connection: sa.Connection, endpoint: MonitoredEndpoint, window: Any) -> dict[str, Any]:
    """The drift of a window against the reference of its version."""
    reference = ingest.sample(connection, endpoint, window.version, ingest.REFERENCE)
    current = ingest.sample(connection, endpoint, window.version, window.start)
    ingest.delete_sample(connection, endpoint, window.version, window.start)
    found = drift.compare(
        reference, current, alpha=endpoint.drift_alpha, min_samples=endpoint.min_samples
    )
    tested = [each for each in found if each.feature != ingest.PREDICTION]
    return {
        "samples": len(current.get(ingest.PREDICTION, ())),
        "reference_samples": len(reference.get(ingest.PREDICTION, ())),
        "features": [asdict(each) for each in tested],
        "prediction": next(
            (asdict(each) for each in found if each.feature == ingest.PREDICTION), None
        ),
        "dataset_drift_ratio": sum(each.drifted for each in tested) / len(tested)
        if tested
        else None,
    }


def concept_drift(
    connection: sa.Connection, endpoint: MonitoredEndpoint, version: str
) -> dict[str, Any]:
    """ADWIN over the errors of the last labelled predictions of a version, by time."""
    if endpoint.task != "classification":
        return {"detector": None, "rows": 0, "changes": []}
    p = db.predictions
    rows = connection.execute(
        sa.select(p.c.time, p.c.predicted, db.labels.c.label)
        .select_from(p.join(db.labels, _with_labels()))
        .where(p.c.endpoint == endpoint.name, p.c.version == version)
        .order_by(p.c.time.desc())
        .limit(CONCEPT_ROWS)
    ).all()[::-1]
    changes = drift.concept_drift(row.predicted != row.label for row in rows)
    return {
        "detector": "adwin",
        "rows": len(rows),
        "changes": [rows[index].time for index in changes],
    }


def prune(connection: sa.Connection, endpoint: MonitoredEndpoint, now: float) -> None:
    """Delete predictions and labels beyond the horizon, and labels of unknown predictions."""
    cutoff, name = horizon(connection, endpoint, now), endpoint.name
    p, labels, files = db.predictions.c, db.labels.c, db.read_files.c
    expired = sa.exists().where(
        p.endpoint == labels.endpoint, p.id == labels.id, p.row == labels.row, p.window < cutoff
    )
    known = sa.exists().where(p.endpoint == labels.endpoint, p.id == labels.id, p.row == labels.row)
    connection.execute(db.labels.delete().where(labels.endpoint == name, expired))
    connection.execute(db.predictions.delete().where(p.endpoint == name, p.window < cutoff))
    unknown = connection.execute(
        db.labels.delete().where(
            labels.endpoint == name, labels.received < now - UNKNOWN_AFTER, ~known
        )
    ).rowcount
    db.count(connection, name, "labels_unknown", unknown)
    connection.execute(
        db.read_files.delete().where(files.endpoint == name, files.date < ingest.day(cutoff))
    )


def horizon(connection: sa.Connection, endpoint: MonitoredEndpoint, now: float) -> float:
    """Windows that start before this time are deleted and not read.

    It follows the newest prediction too, so that a clock that jumps ahead deletes nothing.
    """
    newest = connection.execute(
        sa.select(sa.func.max(db.windows.c.end)).where(db.windows.c.endpoint == endpoint.name)
    ).scalar()
    return min(now, now if newest is None else newest) - endpoint.horizon_seconds
