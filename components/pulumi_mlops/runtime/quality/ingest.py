"""Incremental reading of the prediction log and of label files.

A file and its rows are stored in one transaction: after a restart each file was read completely or
not at all. Rows are read in batches, so memory does not depend on the size of a file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import sqlalchemy as sa

from pulumi_mlops.runtime.quality import database as db
from pulumi_mlops.runtime.quality import labels as labelling
from pulumi_mlops.runtime.quality.database import QualityDatabase
from pulumi_mlops.runtime.quality.rows import Row, RowError, rows_of
from pulumi_mlops.runtime.quality.settings import MonitoredEndpoint
from pulumi_mlops.runtime.quality.store import SourceStore, StoredFile

logger = logging.getLogger(__name__)

BATCH_ROWS = 1000
SAMPLE_ROWS = 2000
"""Rows of a window that drift is computed from."""
REFERENCE = -1.0
PREDICTION = "(prediction)"
"""The name of the prediction among the features."""
_COLUMNS = ["id", "time", "inputs", "outputs"]


def read_log(
    database: QualityDatabase,
    store: SourceStore,
    endpoint: MonitoredEndpoint,
    *,
    since: float,
    first_day: str,
) -> int:
    """Read the files of the log that are new, from `first_day` on. Returns their number.

    Rows of windows that start before ``since`` are left out. Raises OSError if the store fails; the
    next call continues with the same file.
    """
    prefix = f"predictions/endpoint={quote(endpoint.name, safe='')}/"
    read = 0
    for folder in store.folders(prefix):
        version = unquote(folder.removeprefix("version="))
        for partition in store.folders(f"{prefix}{folder}/"):
            date = partition.removeprefix("date=")
            if date < first_day:
                continue
            where = f"{prefix}{folder}/{partition}/"
            known = _known(database, endpoint, date)
            for file in store.files(where):
                if (file.key, "") not in known and file.key.endswith(".parquet"):
                    _read_log_file(database, store, endpoint, version, file, date=date, since=since)
                    read += 1
    return read


def day(time: float) -> str:
    """The day of a time in UTC, as in the names of the log's folders."""
    return datetime.fromtimestamp(max(time, 0.0), UTC).strftime("%Y-%m-%d")


def read_label_files(
    database: QualityDatabase, store: SourceStore, endpoint: MonitoredEndpoint
) -> int:
    """Read the new and changed label files of an endpoint. Returns their number."""
    prefix = f"labels/endpoint={quote(endpoint.name, safe='')}/"
    known = _known(database, endpoint, "labels")
    read = 0
    for file in store.files(prefix):
        if (file.key, file.version) in known or not file.key.endswith((".parquet", ".csv")):
            continue
        read += 1
        with store.open(file.key) as content, database.writing() as connection:
            _mark_read(connection, endpoint, file.key, file.version, "labels")
            try:
                for batch in _label_batches(file.key, content):
                    labelling.accept(connection, endpoint, batch, received=file.time)
            except (pa.ArrowException, labelling.LabelError) as error:
                # What was read before the invalid part stays valid.
                _unreadable(connection, endpoint, file, error)
    return read


def _known(
    database: QualityDatabase, endpoint: MonitoredEndpoint, date: str
) -> set[tuple[str, str]]:
    table = db.read_files.c
    with database.reading() as connection:
        rows = connection.execute(
            sa.select(table.key, table.version).where(
                table.endpoint == endpoint.name, table.date == date
            )
        )
        return {(row.key, row.version) for row in rows}


def _mark_read(
    connection: sa.Connection, endpoint: MonitoredEndpoint, key: str, version: str, date: str
) -> None:
    row = {"endpoint": endpoint.name, "key": key, "version": version, "date": date}
    db.insert_new(connection, db.read_files, [row])


def _unreadable(
    connection: sa.Connection, endpoint: MonitoredEndpoint, file: StoredFile, error: Exception
) -> None:
    logger.warning("%s cannot be read: %s", file.key, str(error).splitlines()[0])
    db.count(connection, endpoint.name, "files_unreadable", 1)


def _read_log_file(
    database: QualityDatabase,
    store: SourceStore,
    endpoint: MonitoredEndpoint,
    version: str,
    file: StoredFile,
    *,
    date: str,
    since: float,
) -> None:
    with store.open(file.key) as content, database.writing() as connection:
        _mark_read(connection, endpoint, file.key, "", date)
        try:
            source = pq.ParquetFile(content)
            for batch in source.iter_batches(batch_size=BATCH_ROWS, columns=_COLUMNS):
                rows, malformed = _parsed(endpoint, batch.to_pylist())
                db.count(connection, endpoint.name, "rows_malformed", malformed)
                recent = [row for row in rows if endpoint.window_start(row.time) >= since]
                _store(connection, endpoint, version, recent)
        except (pa.ArrowException, KeyError) as error:
            _unreadable(connection, endpoint, file, error)


def _parsed(
    endpoint: MonitoredEndpoint, records: Sequence[dict[str, Any]]
) -> tuple[list[Row], int]:
    rows: list[Row] = []
    malformed = 0
    for record in records:
        try:
            time = record["time"].timestamp()
            rows += rows_of(endpoint, record["id"], time, record["inputs"], record["outputs"])
        except (RowError, AttributeError, TypeError):
            malformed += 1
    return rows, malformed


def _store(
    connection: sa.Connection, endpoint: MonitoredEndpoint, version: str, rows: Sequence[Row]
) -> None:
    """Store new rows. A row whose id was read before is a repetition and is only counted."""
    known = labelling.existing(connection, db.predictions, endpoint, [row.id for row in rows])
    new: dict[tuple[str, int], Row] = {}
    for row in rows:
        if (row.id, row.row) not in known:
            new.setdefault((row.id, row.row), row)
    db.count(connection, endpoint.name, "rows_read", len(new))
    db.count(connection, endpoint.name, "rows_repeated", len(rows) - len(new))
    if not new:
        return
    names = endpoint.slices
    db.insert_new(
        connection, db.predictions,
        [
            {
                "endpoint": endpoint.name, "id": row.id, "row": row.row, "version": version,
                "time": row.time, "window": endpoint.window_start(row.time), "rank": row.rank,
                "predicted": row.predicted, "scores": row.scores,
                "slices": {name: str(row.features[name]) for name in names if name in row.features}
                or None,
            }
            for row in new.values()
        ],
    )  # fmt: skip
    by_window: dict[float, list[Row]] = {}
    for row in new.values():
        by_window.setdefault(endpoint.window_start(row.time), []).append(row)
    for start in by_window:
        touch(connection, endpoint, version, start)
    _sample(connection, endpoint, version, by_window)


def touch(
    connection: sa.Connection, endpoint: MonitoredEndpoint, version: str, start: float
) -> None:
    """Create a window, or mark it to be evaluated again."""
    table = db.windows
    db.insert_new(
        connection, table,
        [{"endpoint": endpoint.name, "version": version, "start": start,
          "end": start + endpoint.window, "state": "open", "changed": True, "revision": 0,
          "predictions": 0, "labels": 0}],
    )  # fmt: skip
    connection.execute(
        table.update()
        .where(
            table.c.endpoint == endpoint.name, table.c.version == version, table.c.start == start
        )
        .values(changed=True)
    )


def _sample(
    connection: sa.Connection,
    endpoint: MonitoredEndpoint,
    version: str,
    by_window: dict[float, list[Row]],
) -> None:
    """Keep the first rows of a version as its reference, and a random sample of each window."""
    missing = endpoint.reference_rows - _sample_count(connection, endpoint, version, REFERENCE)
    for start, rows in sorted(by_window.items()):
        reference, rest = rows[: max(missing, 0)], rows[max(missing, 0) :]
        missing -= len(reference)
        _add_sample(connection, endpoint, version, REFERENCE, reference)
        _add_sample(connection, endpoint, version, start, rest)
        _trim_sample(connection, endpoint, version, start)


def _values(endpoint: MonitoredEndpoint, row: Row) -> dict[str, Any]:
    predicted = float(row.predicted) if endpoint.task == "regression" else row.predicted
    return {**row.features, PREDICTION: predicted}


def _add_sample(
    connection: sa.Connection,
    endpoint: MonitoredEndpoint,
    version: str,
    window: float,
    rows: Sequence[Row],
) -> None:
    db.insert_new(
        connection, db.samples,
        [{"endpoint": endpoint.name, "version": version, "window": window, "rank": row.rank,
          "values": _values(endpoint, row)} for row in rows],
    )  # fmt: skip


def _of_sample(endpoint: MonitoredEndpoint, version: str, window: float) -> sa.ColumnElement[bool]:
    table = db.samples.c
    return sa.and_(
        table.endpoint == endpoint.name, table.version == version, table.window == window
    )


def _sample_count(
    connection: sa.Connection, endpoint: MonitoredEndpoint, version: str, window: float
) -> int:
    query = sa.select(sa.func.count()).select_from(db.samples)
    return int(connection.execute(query.where(_of_sample(endpoint, version, window))).scalar_one())


def _trim_sample(
    connection: sa.Connection, endpoint: MonitoredEndpoint, version: str, window: float
) -> None:
    """Keep the rows with the lowest ranks."""
    mine = _of_sample(endpoint, version, window)
    rank = db.samples.c.rank
    last = connection.execute(
        sa.select(rank).where(mine).order_by(rank).offset(SAMPLE_ROWS - 1).limit(1)
    ).scalar()
    if last is not None:
        connection.execute(db.samples.delete().where(mine, rank > last))


def sample(
    connection: sa.Connection, endpoint: MonitoredEndpoint, version: str, window: float
) -> dict[str, list[Any]]:
    """The sampled values of a window by feature."""
    columns: dict[str, list[Any]] = {}
    query = sa.select(db.samples.c["values"]).where(_of_sample(endpoint, version, window))
    for (values,) in connection.execute(query):
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
    return columns


def delete_sample(
    connection: sa.Connection, endpoint: MonitoredEndpoint, version: str, window: float
) -> None:
    """Delete the sample of a window whose drift is known."""
    connection.execute(db.samples.delete().where(_of_sample(endpoint, version, window)))


def _label_batches(key: str, content: Any) -> Iterator[list[dict[str, Any]]]:
    if key.endswith(".parquet"):
        for batch in pq.ParquetFile(content).iter_batches(batch_size=BATCH_ROWS):
            yield batch.to_pylist()
    else:
        names = pa_csv.open_csv(content).schema.names
        content.seek(0)
        # As text: a type that is guessed from the first rows may not fit the others.
        options = pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
        for batch in pa_csv.open_csv(content, convert_options=options):
            for start in range(0, len(batch), BATCH_ROWS):
                yield batch.slice(start, BATCH_ROWS).to_pylist()
