"""The tables of the quality service, in SQLite or PostgreSQL.

Memory and disk are bounded by the label horizon: predictions and labels that are older are deleted.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

metadata = sa.MetaData()
JSON = sa.JSON(none_as_null=True)


def _key(name: str, kind: Any = sa.Text) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True)


read_files = sa.Table(
    "quality_read_files", metadata,
    _key("endpoint"), _key("key"), _key("version"),
    sa.Column("date", sa.Text, nullable=False),
    comment="Files of the store that were read: the position in the log",
)  # fmt: skip
predictions = sa.Table(
    "quality_predictions", metadata,
    _key("endpoint"), _key("id"), _key("row", sa.Integer),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("window", sa.Double, nullable=False),
    sa.Column("rank", sa.BigInteger, nullable=False),
    sa.Column("predicted", sa.Text, nullable=False),
    sa.Column("scores", JSON), sa.Column("slices", JSON),
    sa.Index("quality_predictions_window", "endpoint", "window", "version"),
    sa.Index("quality_predictions_rank", "endpoint", "rank"),
    sqlite_with_rowid=False,  # without a copy of the primary key
)  # fmt: skip
labels = sa.Table(
    "quality_labels", metadata,
    _key("endpoint"), _key("id"), _key("row", sa.Integer),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("received", sa.Double, nullable=False),
    sa.Index("quality_labels_received", "endpoint", "received"),
    sqlite_with_rowid=False,
)  # fmt: skip
windows = sa.Table(
    "quality_windows", metadata,
    _key("endpoint"), _key("version"), _key("start", sa.Double),
    sa.Column("end", sa.Double, nullable=False),
    sa.Column("state", sa.Text, nullable=False, comment="open, waiting, final, insufficient"),
    sa.Column("changed", sa.Boolean, nullable=False, comment="to be evaluated again"),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("predictions", sa.Integer, nullable=False),
    sa.Column("labels", sa.Integer, nullable=False),
    sa.Column("quality", JSON), sa.Column("drift", JSON),
    sa.Column("evaluated", sa.Double),
)  # fmt: skip
samples = sa.Table(
    "quality_samples", metadata,
    _key("endpoint"), _key("version"), _key("window", sa.Double), _key("rank", sa.BigInteger),
    sa.Column("values", JSON, nullable=False),
    comment="Random rows of a window for drift; window -1 is the reference",
)  # fmt: skip
counters = sa.Table(
    "quality_counters", metadata,
    _key("endpoint"), _key("name"), sa.Column("value", sa.BigInteger, nullable=False),
)  # fmt: skip


class QualityDatabase:
    """Connections for reading, and one writer at a time."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url, pool_pre_ping=True)
        if self.engine.dialect.name == "sqlite":
            sa.event.listen(self.engine, "connect", _configure_sqlite)
        self._writer = threading.RLock()
        metadata.create_all(self.engine)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection for queries."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction: all or nothing is stored. One at a time in this process."""
        with self._writer, self.engine.begin() as connection:
            yield connection


def _configure_sqlite(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA busy_timeout=30000")


def insert_new(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows. Rows whose primary key exists are left out."""
    if rows:
        connection.execute(insert_into(connection, table).on_conflict_do_nothing(), list(rows))


def count(connection: sa.Connection, endpoint: str, name: str, added: int) -> None:
    """Add to a counter."""
    if not added:
        return
    insert = insert_into(connection, counters).values(endpoint=endpoint, name=name, value=added)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["endpoint", "name"], set_={"value": counters.c.value + added}
        )
    )


def counts(connection: sa.Connection, endpoint: str) -> dict[str, int]:
    """The counters of an endpoint."""
    rows = connection.execute(sa.select(counters).where(counters.c.endpoint == endpoint))
    return {row.name: row.value for row in rows}


def insert_into(connection: sa.Connection, table: sa.Table) -> Any:
    """The INSERT of the dialect, which has ``on_conflict_do_update``."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)
