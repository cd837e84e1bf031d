"""Has a database's tables be those of the installed MLflow, before a server uses them:
`python -m pulumi_mlops.runtime.tracking_schema [--users]`.

MLFLOW_BACKEND_STORE_URI is the database. An empty one gets its tables, an older one is changed, and
one that is as it should be is left alone, so that it may run any number of times. One that a newer
MLflow has changed is refused, as a server would not start with it. `--users` is for the tables of a
server that asks for a user too, whose revisions MLflow counts by themselves.

On PostgreSQL each of the two is one transaction: one that fails changes nothing.
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
    """Bring the tables to the newest revision, or exit with what keeps them from it."""
    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    engine = utils.create_sqlalchemy_engine_with_retry(uri)  # type: ignore[no-untyped-call]
    config = utils._get_alembic_config(uri)  # type: ignore[no-untyped-call]
    script = ScriptDirectory.from_config(config)
    _bring(engine, "runs and models", script, "alembic_version", lambda at: _runs(engine, at))
    if "--users" in sys.argv[1:]:
        # Only `mlflow[auth]` has all that it imports.
        from mlflow.server.auth.db import utils as users  # noqa: PLC0415

        script = ScriptDirectory.from_config(users._get_alembic_config(uri))
        change = lambda _: users.migrate_if_needed(engine, "head")  # noqa: E731
        _bring(engine, "users", script, "alembic_version_auth", change)


def _runs(engine: sqlalchemy.Engine, at: str | None) -> None:
    if at is None:
        utils._initialize_tables(engine)  # type: ignore[no-untyped-call]
    else:
        utils._upgrade_db(engine)  # type: ignore[no-untyped-call]


def _bring(
    engine: sqlalchemy.Engine,
    what: str,
    script: ScriptDirectory,
    version_table: str,
    change: Callable[[str | None], None],
) -> None:
    with engine.connect() as connection:
        options = {"version_table": version_table}
        at = MigrationContext.configure(connection, opts=options).get_current_revision()
    newest = script.get_current_head()
    if at == newest:
        print(f"{what}: at revision {newest}, as they should be")
        return
    if at is not None and not _knows(script, at):
        sys.exit(
            f"{what}: the database is at revision {at}, which MLflow {VERSION} does not know (its "
            f"newest is {newest}): a newer MLflow has changed it; use that one again, or restore a "
            "backup of the database"
        )
    step = f"{what}: from {f'revision {at}' if at else 'nothing'} to revision {newest}"
    try:
        change(at)
    except Exception as error:
        # Without the statement, whose parameters are somebody's data.
        sys.exit(f"{step} failed: {getattr(error, 'orig', None) or error}")
    print(step)


def _knows(script: ScriptDirectory, revision: str) -> bool:
    try:
        return script.get_revision(revision) is not None
    except CommandError:
        return False


if __name__ == "__main__":
    main()
