"""Folders of source code: the files that are deployed, and a digest of them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

_LEFT_OUT = frozenset({"__pycache__", "node_modules", "mlruns", "build", "dist"})
_DIGEST_LENGTH = 16


def find_project(start: Path | None = None) -> Path:
    """The project folder: the nearest at or above `start` with a Pulumi.yaml, else `start`.

    Default of `start`: the working folder.
    """
    start = (start or Path.cwd()).absolute()
    for folder in (start, *start.parents):
        if (folder / "Pulumi.yaml").exists():
            return folder
    return start


def from_project(path: str) -> Path:
    """A path of the configuration: absolute, below the project folder, or with `~`."""
    return find_project() / Path(path).expanduser()


def source_files(folder: Path) -> Iterator[Path]:
    """The files of `folder` that are deployed, in a fixed order.

    Left out: hidden files, virtual environments, caches, build output, sockets, pipes and broken
    links. A link to a file counts as the file; links to folders are not followed.
    """
    for _, entry in _entries(folder):
        yield Path(entry.path)


def _entries(folder: Path | str, above: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Each source file: its path from the top folder, with slashes, and its entry."""
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError:  # not readable, or removed since: left out, as in os.walk
        return
    folders = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            folders.append(entry)
        elif not entry.name.endswith(".pyc") and entry.is_file():
            yield f"{above}{entry.name}", entry
    for entry in folders:
        left_out = entry.name in _LEFT_OUT or entry.is_symlink()
        if not left_out and not Path(entry.path, "pyvenv.cfg").exists():
            yield from _entries(entry.path, f"{above}{entry.name}/")


def digest(folder: Path) -> str:
    """Sixteen hexadecimal digits over names, contents and run bits of the source files.

    Raises FileNotFoundError when there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    total = hashlib.sha256()
    for path, entry in _entries(folder):
        executable = os.access(entry.path, os.X_OK)
        # A name need not be Unicode.
        total.update(os.fsencode(f"{path}\0{int(executable)}\0"))
        status = entry.stat()
        total.update(_content_digest(entry.path, status.st_mtime_ns, status.st_size))
    return total.hexdigest()[:_DIGEST_LENGTH]


# Cached until the file changes: many endpoints of a platform run the same code.
@lru_cache(maxsize=4096)
def _content_digest(file: str, modified_ns: int, size: int) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()


def copy(folder: Path, to: Path) -> None:
    """Copy the source files of `folder` to the new folder `to`."""
    for file in source_files(folder):
        target = to / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
