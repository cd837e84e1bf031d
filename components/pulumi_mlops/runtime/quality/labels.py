"""Labels: what becomes of each one, and how they are parsed.

Every label that arrives has exactly one outcome, which is counted:

=============  =====================================================================================
``accepted``   the prediction is known and its window is not final
``pending``    no prediction with this id was read yet; the label is kept
``late``       the window of the prediction was final; it is evaluated again, with a new revision
``repeated``   the same label for the same prediction; no effect
``changed``    another label for the same prediction replaces the previous one; a final window is
               evaluated again
``invalid``    no id, or a label that does not fit the task; no effect
=============  =====================================================================================

A pending label whose prediction has not appeared after a day is deleted and counted as ``unknown``.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from pulumi_mlops.runtime.quality import database as db
from pulumi_mlops.runtime.quality.rows import RowError, label_text, storable
from pulumi_mlops.runtime.quality.settings import MonitoredEndpoint

OUTCOMES = ("accepted", "pending", "late", "repeated", "changed", "invalid", "unknown")
MAX_ERRORS = 20
MAX_ROW = 999_999
_CHUNK = 400  # SQLite allows 32,766 variables in a statement
_EVALUATED = ("final", "insufficient")


class LabelError(ValueError):
    """Labels cannot be parsed. The message is for the sender."""


@dataclass
class Received:
    """The outcomes of a request, and the first errors."""

    outcomes: Counter[str] = field(default_factory=Counter)
    errors: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The answer to the sender."""
        return {**{name: self.outcomes[name] for name in OUTCOMES[:-1]}, "errors": self.errors}


def parse(body: bytes, content_type: str) -> list[dict[str, Any]]:
    """The items of a request: JSON (one object, a list, or ``{"labels": […]}``) or CSV.

    Raises LabelError.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise LabelError("the body is not UTF-8") from None
    if "csv" in content_type:
        reader = csv.DictReader(io.StringIO(text))
        if "id" not in (reader.fieldnames or ()):
            raise LabelError("the first line of the CSV must name the columns, one of them `id`")
        return [dict(row) for row in reader]
    try:
        value = json.loads(text)
    except ValueError:
        raise LabelError("the body is not JSON; send CSV as text/csv") from None
    if isinstance(value, dict) and isinstance(value.get("labels"), list):
        value = value["labels"]
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) for item in items):
        raise LabelError('must be {"id": …, "label": …}, or a list of them')
    return items


def accept(
    connection: sa.Connection, endpoint: MonitoredEndpoint, items: Sequence[dict[str, Any]],
    *, received: float,
) -> Received:  # fmt: skip
    """Store labels and count their outcomes. ``received`` is the time of their arrival."""
    result = Received()
    valid: list[tuple[str, int, str]] = []
    for index, item in enumerate(items):
        try:
            valid += _labels_of(endpoint, item)
        except RowError as error:
            result.outcomes["invalid"] += 1
            if len(result.errors) < MAX_ERRORS:
                result.errors.append({"index": index, "error": str(error)})
    for start in range(0, len(valid), _CHUNK):
        _accept(connection, endpoint, valid[start : start + _CHUNK], received, result)
    for name, added in result.outcomes.items():
        db.count(connection, endpoint.name, f"labels_{name}", added)
    return result


def _labels_of(endpoint: MonitoredEndpoint, item: dict[str, Any]) -> list[tuple[str, int, str]]:
    name = endpoint.label if endpoint.label in item else "label"
    given, label, row = item.get("id"), item.get(name), item.get("row")
    if not isinstance(given, str) or not given:
        raise RowError("id: must be the id of a prediction, the x-request-id of its response")
    storable(given)
    if label is None:
        raise RowError(f"{name}: is missing")
    if isinstance(label, list):
        return [(given, index, label_text(endpoint, each)) for index, each in enumerate(label)]
    try:
        position = int(row) if row not in (None, "") else 0
    except (TypeError, ValueError):
        position = -1
    if not 0 <= position <= MAX_ROW:
        raise RowError(f"row: must be the position of a row in the request, 0 to {MAX_ROW}")
    return [(given, position, label_text(endpoint, label))]


def _accept(
    connection: sa.Connection, endpoint: MonitoredEndpoint, labels: Sequence[tuple[str, int, str]],
    received: float, result: Received,
) -> None:  # fmt: skip
    ids = [each for each, _, _ in labels]
    known = existing(connection, db.labels, endpoint, ids, db.labels.c.label)
    predicted = existing(
        connection, db.predictions, endpoint, ids, db.predictions.c.version,
        db.predictions.c.window,
    )  # fmt: skip
    closed = _closed(connection, endpoint, predicted.values())
    new: dict[tuple[str, int], dict[str, Any]] = {}
    touched = set()
    for each, row, label in labels:
        key, previous = (each, row), known.get((each, row))
        window = predicted.get(key)
        if previous is not None and previous[0] == label:
            result.outcomes["repeated"] += 1
            continue
        if previous is not None:
            result.outcomes["changed"] += 1
        elif window is None:
            result.outcomes["pending"] += 1
        else:
            result.outcomes["late" if window in closed else "accepted"] += 1
        known[key] = (label,)
        new[key] = {
            "endpoint": endpoint.name, "id": each, "row": row, "label": label,
            "received": received,
        }  # fmt: skip
        if window is not None:
            touched.add(window)
    _write(connection, list(new.values()))
    for version, start in touched:
        connection.execute(
            db.windows.update()
            .where(
                db.windows.c.endpoint == endpoint.name,
                db.windows.c.version == version,
                db.windows.c.start == start,
            )
            .values(changed=True)
        )


def _write(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    """Insert labels, or replace the label of an existing row. Its time of arrival stays."""
    if rows:
        statement = db.insert_into(connection, db.labels)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["endpoint", "id", "row"],
                set_={"label": statement.excluded.label},
            ),
            rows,
        )


def _closed(
    connection: sa.Connection, endpoint: MonitoredEndpoint, keys: Any
) -> set[tuple[Any, ...]]:
    """Those windows that were evaluated."""
    starts = {start for _, start in keys}
    if not starts:
        return set()
    table = db.windows.c
    rows = connection.execute(
        sa.select(table.version, table.start).where(
            table.endpoint == endpoint.name, table.start.in_(starts), table.state.in_(_EVALUATED)
        )
    )
    return {tuple(row) for row in rows}


def existing(
    connection: sa.Connection, table: sa.Table, endpoint: MonitoredEndpoint, ids: Sequence[str],
    *columns: sa.ColumnElement[Any],
) -> dict[tuple[str, int], tuple[Any, ...]]:  # fmt: skip
    """The rows of a table with one of these ids: the columns by id and row."""
    found: dict[tuple[str, int], tuple[Any, ...]] = {}
    unique = sorted(set(ids))
    for start in range(0, len(unique), _CHUNK):
        rows = connection.execute(
            sa.select(table.c.id, table.c.row, *columns).where(
                table.c.endpoint == endpoint.name, table.c.id.in_(unique[start : start + _CHUNK])
            )
        )
        found |= {(row[0], row[1]): tuple(row[2:]) for row in rows}
    return found
