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
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _LEFT_OUT
            and not (here / name / "pyvenv.cfg").exists()
        )
        for name in sorted(files):
            deployed = not name.startswith(".") and not name.endswith(".pyc")
            if deployed and (here / name).is_file():
                yield here / name


def digest(folder: Path) -> str:
    """Sixteen hexadecimal digits over names, contents and run bits of the source files.

    Raises FileNotFoundError when there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    total = hashlib.sha256()
    for file in source_files(folder):
        executable = os.access(file, os.X_OK)
        # A name need not be Unicode.
        total.update(os.fsencode(f"{file.relative_to(folder).as_posix()}\0{int(executable)}\0"))
        found = file.stat()
        total.update(_content_digest(file, found.st_mtime_ns, found.st_size))
    return total.hexdigest()[:_DIGEST_LENGTH]


# Cached until the file changes: many endpoints of a platform run the same code.
@lru_cache(maxsize=4096)
def _content_digest(file: Path, modified_ns: int, size: int) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()


def copy(folder: Path, to: Path) -> None:
    """Copy the source files of `folder` to the new folder `to`."""
    for file in source_files(folder):
        target = to / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
