"""Migrates a database to the schema of the installed MLflow:
`python -m pulumi_mlops.runtime.tracking_schema [--users]`.

MLFLOW_BACKEND_STORE_URI is the URL of the database. Tables are created in an empty database and
upgraded in an older one. A current schema is not changed, so the migration can be repeated. A
schema of a newer MLflow is refused, because a server would not start with it. `--users` also
migrates the tables of a server with users, which have their own revisions.

On PostgreSQL each of the two migrations is one transaction: a failed one changes nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import sqlalchemy
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from mlflow.store.db import utils
from mlflow.version import VERSION


def main() -> None:
    """Migrate the tables to the newest revision. Exits with the reason if that fails."""
    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    engine = utils.create_sqlalchemy_engine_with_retry(uri)  # type: ignore[no-untyped-call]
    config = utils._get_alembic_config(uri)  # type: ignore[no-untyped-call]
    script = ScriptDirectory.from_config(config)
    _migrate(
        engine,
        "runs and models",
        script,
        "alembic_version",
        lambda revision: _migrate_runs(engine, revision),
    )
    if "--users" in sys.argv[1:]:
        # Its imports need `mlflow[auth]`.
        from mlflow.server.auth.db import utils as users  # noqa: PLC0415

        script = ScriptDirectory.from_config(users._get_alembic_config(uri))
        change = lambda _: users.migrate_if_needed(engine, "head")  # noqa: E731
        _migrate(engine, "users", script, "alembic_version_auth", change)


def _migrate_runs(engine: sqlalchemy.Engine, revision: str | None) -> None:
    if revision is None:
        utils._initialize_tables(engine)  # type: ignore[no-untyped-call]
    else:
        utils._upgrade_db(engine)  # type: ignore[no-untyped-call]


def _migrate(
    engine: sqlalchemy.Engine,
    what: str,
    script: ScriptDirectory,
    version_table: str,
    change: Callable[[str | None], None],
) -> None:
    with engine.connect() as connection:
        options = {"version_table": version_table}
        revision = MigrationContext.configure(connection, opts=options).get_current_revision()
    newest = script.get_current_head()
    if revision == newest:
        print(f"{what}: already at revision {newest}")
        return
    if revision is not None and not _has_revision(script, revision):
        sys.exit(
            f"{what}: the database is at revision {revision}, which MLflow {VERSION} does not have "
            f"(its newest is {newest}): a newer MLflow has migrated it. Install that version of "
            "MLflow, or restore a backup of the database"
        )
    start = f"revision {revision}" if revision else "an empty database"
    step = f"{what}: from {start} to revision {newest}"
    try:
        change(revision)
    except Exception as error:
        # Without the SQL statement, because its parameters are user data.
        sys.exit(f"{step} failed: {getattr(error, 'orig', None) or error}")
    print(step)


def _has_revision(script: ScriptDirectory, revision: str) -> bool:
    try:
        return script.get_revision(revision) is not None
    except CommandError:
        return False


if __name__ == "__main__":
    main()
