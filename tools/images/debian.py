"""Unpacks Debian packages that tests need into the user's cache, without installing them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path


class ClusterError(Exception):
    """A program that tests need cannot be provided. The message names the cause."""


def say(message: str) -> None:
    print(f"images: {message}", file=sys.stderr, flush=True)


def cache_folder(env: Mapping[str, str] = os.environ) -> Path:
    """This user's folder of downloads and builds for tests."""
    base = env.get("XDG_CACHE_HOME") or Path(env.get("HOME", "~")).expanduser() / ".cache"
    return Path(base) / "pulumi-mlops" / "images"


def run(
    command: list[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> str:
    """Run a command. Returns its output, or raises ClusterError with the last lines."""
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{' '.join(command[:3])} did not end within {timeout:.0f} s") from None
    except OSError as error:
        raise ClusterError(f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise ClusterError("\n  ".join([f"{' '.join(command[:3])} failed:", *last]))
    return done.stdout


@contextlib.contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Lock the cache for one process. The kernel releases the lock when the process ends."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".images-lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def unpacked(name: str, packages: tuple[str, ...]) -> Path:
    """A folder in the cache with the contents of Debian packages. They are not installed."""
    cache = cache_folder()
    target = cache / name
    with locked(cache):
        if target.is_dir():
            return target
        say(f"downloading {', '.join(packages)}")
        partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
        try:
            try:
                run(["apt-get", "download", *packages], partial)
            except ClusterError:
                # The package lists may be missing.
                run(["apt-get", "update"])
                run(["apt-get", "download", *packages], partial)
            for package in sorted(partial.glob("*.deb")):
                run(["dpkg", "-x", str(package), str(partial)])
                package.unlink()
            partial.chmod(0o755)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target
