"""MLflow's tables before a server uses them: on real SQLite files, by MLflow's own migrations."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils

from pulumi_mlops.runtime import tracking_schema

HEAD = utils._get_latest_schema_revision()
OLDER = "cc1f77228345"  # of 2022: tables and columns of later ones are missing
USERS = "server/auth/db/migrations"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "mlflow.sqlite"


@pytest.fixture
def older(database: Path) -> Path:
    """With a run of that time in it."""
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    utils.InitialBase.metadata.create_all(engine)
    config = utils._get_alembic_config(f"sqlite:///{database}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OLDER)
    execute(database, "insert into experiments (experiment_id, name) values (7, 'old')")
    return database


def execute(database: Path, statement: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(database) as connection:
        return connection.execute(statement).fetchall()


def revision(database: Path) -> str:
    return str(execute(database, "select version_num from alembic_version")[0][0])


@pytest.fixture
def run(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What the program says, or, where it exits with a reason, that."""

    def run(*arguments: str, fails: bool = False) -> str:
        monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", f"sqlite:///{database}")
        monkeypatch.setattr(sys, "argv", ["tracking_schema", *arguments])
        if not fails:
            tracking_schema.main()
            return capsys.readouterr().out
        with pytest.raises(SystemExit) as ended:
            tracking_schema.main()
        return str(ended.value)

    return run


def server_takes(database: Path) -> bool:
    """As a server does when it starts."""
    try:
        utils._verify_schema(sqlalchemy.create_engine(f"sqlite:///{database}"))
    except MlflowException:
        return False
    return True


def test_an_empty_one_gets_its_tables_and_another_run_changes_nothing(
    database: Path, run: Any
) -> None:
    assert run() == f"runs and models: from an empty database to revision {HEAD}\n"
    assert server_takes(database)
    before = database.read_bytes()
    assert run() == f"runs and models: already at revision {HEAD}\n"
    assert database.read_bytes() == before


def test_an_older_one_is_changed_and_keeps_its_data(older: Path, run: Any) -> None:
    assert not server_takes(older)
    assert run() == f"runs and models: from revision {OLDER} to revision {HEAD}\n"
    assert server_takes(older)
    assert execute(older, "select name from experiments where experiment_id = 7") == [("old",)]


def test_a_newer_one_is_left_alone_and_both_revisions_are_named(older: Path, run: Any) -> None:
    execute(older, "update alembic_version set version_num = 'fedcba987654'")
    before = older.read_bytes()
    told = run(fails=True)
    for named in ("revision fedcba987654", HEAD, "a newer MLflow has migrated it", "backup"):
        assert named in told
    assert older.read_bytes() == before


def test_a_migration_that_fails_says_which_and_why(older: Path, run: Any) -> None:
    # What a later revision makes is there already.
    execute(older, "create table trace_info (mine text)")
    told = run(fails=True)
    assert told.startswith(f"runs and models: from revision {OLDER} to revision {HEAD} failed: ")
    assert "table trace_info already exists" in told
    assert "CREATE" not in told


def test_the_tables_of_users_have_revisions_of_their_own(
    database: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's real ones need more packages than these tests have: tests/engine runs them."""
    changed = []
    config = Config()
    config.set_main_option("script_location", str(Path(mlflow.__file__).parent / USERS))
    users = ModuleType("mlflow.server.auth.db.utils")
    users._get_alembic_config = lambda url: config  # type: ignore[attr-defined]
    users.migrate_if_needed = lambda *given: changed.append(given[1])  # type: ignore[attr-defined]
    package = ModuleType("mlflow.server.auth.db")
    package.utils = users  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow.server.auth", ModuleType("mlflow.server.auth"))
    monkeypatch.setitem(sys.modules, package.__name__, package)
    newest = ScriptDirectory.from_config(config).get_current_head()
    assert run("--users").endswith(f"users: from an empty database to revision {newest}\n")
    assert changed == ["head"]
    execute(database, "create table alembic_version_auth (version_num text)")
    execute(database, "insert into alembic_version_auth values ('fedcba987654')")
    assert "users: the database is at revision fedcba987654" in run("--users", fails=True)
    execute(database, f"update alembic_version_auth set version_num = '{newest}'")
    assert run("--users").endswith(f"users: already at revision {newest}\n")
    assert changed == ["head"]
