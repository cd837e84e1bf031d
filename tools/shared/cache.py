"""The cache of built programs of this user. A version appears when it is complete."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from progress import ToolError, say

Way = Callable[[Path, str], None]


def cache_folder(env: Mapping[str, str], what: str) -> Path:
    """The folder of this user's builds of `what`, with one folder for each version."""
    base = env.get("XDG_CACHE_HOME") or Path(env.get("HOME", "~")).expanduser() / ".cache"
    return Path(base) / "pulumi-mlops" / what


@contextlib.contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Lock the cache for one process. The kernel releases the lock when the process ends."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that is downloading or building")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fill(  # noqa: PLR0917
    cache: Path,
    version: str,
    ways: Sequence[Way],
    usable: Callable[[Path, str], bool],
    what: str,
    hint: str = "",
) -> Path:
    """Fill `cache`/`version` with the first way that works. Returns its bin folder.

    `hint` is a fix that the error message adds if all ways fail.
    """
    target = cache / version
    with locked(cache):
        if usable(target / "bin", version):
            return target / "bin"
        for leftover in cache.glob(".making-*"):  # of a killed process, since this one has the lock
            shutil.rmtree(leftover, ignore_errors=True)
        reasons = []
        for way in ways:
            folder = Path(tempfile.mkdtemp(prefix=".making-", dir=cache))
            try:
                way(folder, version)
                if not usable(folder / "bin", version):
                    raise ToolError(f"the result is not a working {what}")
                shutil.rmtree(target, ignore_errors=True)
                folder.chmod(0o755)
                folder.rename(target)
                return target / "bin"
            except ToolError as error:
                reasons.append(f"{way.__name__}: {error}")
                say(str(error))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    fix = " or ".join(filter(None, [hint, "allow the package index and the Go module proxy"]))
    raise ToolError(
        f"no {what}: {len(reasons)} ways failed (see above); {fix} (UV_INDEX_URL, GOPROXY,"
        " SSL_CERT_FILE)"
    )
