"""Folders of source code: the files that are deployed, and a digest of them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

_CACHES = frozenset({"__pycache__"})
_NOT_DEPLOYED = frozenset({"node_modules", "mlruns"})
_BUILD_OUTPUT = frozenset({"build", "dist"})
_BUILD_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "package.json")
_USUAL_HIDDEN = re.compile(
    r"\.(git.*|venv|.*cache|ipynb_checkpoints|idea|vscode|DS_Store|editorconfig|tox|nox|coverage"
    r"|python-version|pre-commit-config\.yaml|dockerignore|mlops)"
)
"""Hidden files that nobody expects to be deployed."""
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

    Left out: hidden files, virtual environments, caches, build output (`build` and `dist` of a
    project), sockets, pipes and broken links. A link to a file counts as the file. A link to a
    folder counts as the folder if that is inside `folder`, and is left out otherwise.
    """
    for _, entry in _Walk(folder).entries():
        yield Path(entry.path)


def left_out(folder: Path) -> list[str]:
    """What `folder` has that is not deployed and that its owner may miss, with the reason.

    Caches, virtual environments and the usual hidden files are not listed.
    """
    walk = _Walk(folder)
    for _ in walk.entries():
        pass
    return walk.left_out


class _Walk:
    """One pass over the source files of a folder, and what was left out of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._top = os.path.realpath(folder)
        self.left_out: list[str] = []

    def entries(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Each source file: its path from the top folder, with slashes, and its entry."""
        yield from self._below(self._folder, "", ())

    def _below(
        self, folder: Path | str, above: str, links: tuple[str, ...]
    ) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """The files below `folder`. `links` are the folders whose links led here."""
        try:
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            self.left_out.append(f"{above} ({error.strerror})")
            return
        has_build = any(entry.name in _BUILD_FILES for entry in entries)
        folders: list[tuple[os.DirEntry[str], tuple[str, ...]]] = []
        for entry in entries:
            if entry.is_dir():
                if not self._is_left_out_folder(entry, above, has_build):
                    inside = self._followed(entry, above, links)
                    folders += [] if inside is None else [(entry, inside)]
            elif not self._is_left_out_file(entry, above):
                yield f"{above}{entry.name}", entry
        for entry, inside in folders:
            yield from self._below(entry.path, f"{above}{entry.name}/", inside)

    def _is_left_out_file(self, entry: os.DirEntry[str], above: str) -> bool:
        if entry.name.endswith(".pyc") or _USUAL_HIDDEN.fullmatch(entry.name):
            return True
        reason = None
        if entry.name.startswith("."):
            reason = "hidden"
        elif not entry.is_file():
            reason = "a broken link" if entry.is_symlink() else "not a regular file"
        if reason:
            self.left_out.append(f"{above}{entry.name} ({reason})")
        return reason is not None

    def _is_left_out_folder(self, entry: os.DirEntry[str], above: str, has_build: bool) -> bool:
        name = entry.name
        if name in _CACHES or name.endswith(".egg-info") or _USUAL_HIDDEN.fullmatch(name):
            return True
        if Path(entry.path, "pyvenv.cfg").exists():
            return True
        reason = None
        if name.startswith("."):
            reason = "hidden"
        elif name in _NOT_DEPLOYED or (name in _BUILD_OUTPUT and has_build):
            reason = "never deployed" if name in _NOT_DEPLOYED else "build output"
        if reason:
            self.left_out.append(f"{above}{name}/ ({reason})")
        return reason is not None

    def _followed(
        self, entry: os.DirEntry[str], above: str, links: tuple[str, ...]
    ) -> tuple[str, ...] | None:
        """The links that lead into the folder `entry`, or None if it is not followed."""
        if not entry.is_symlink():
            return links
        target = os.path.realpath(entry.path)
        here = os.path.realpath(Path(entry.path).parent)
        inside = (*links, here)
        reason = None
        if not _contains(self._top, target):
            reason = f"a link to a folder outside, {target}"
        elif any(_contains(target, link) for link in inside):
            reason = "a link to a folder that contains it"
        if reason:
            self.left_out.append(f"{above}{entry.name} ({reason})")
        return None if reason else inside


def _contains(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def digest(path: Path) -> str:
    """Sixteen hexadecimal digits over names, contents and run bits of the source files.

    `path` is a folder, or a file. Raises FileNotFoundError if there is neither.
    """
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGEST_LENGTH]
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder")
    total = hashlib.sha256()
    for name, entry in _Walk(path).entries():
        executable = os.access(entry.path, os.X_OK)
        # A name need not be Unicode.
        total.update(os.fsencode(f"{name}\0{int(executable)}\0"))
        status = entry.stat()
        total.update(_content_digest(entry.path, status.st_mtime_ns, status.st_size))
    return total.hexdigest()[:_DIGEST_LENGTH]


# Cached until the file changes: many endpoints of a platform run the same code.
@lru_cache(maxsize=4096)
def _content_digest(file: str, modified_ns: int, size: int) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()


def copy(path: Path, to: Path) -> None:
    """Copy the source files of the folder `path`, or the file `path`, to the new path `to`."""
    if path.is_file():
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, to)
        return
    to.mkdir(parents=True, exist_ok=True)
    for name, entry in _Walk(path).entries():
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(entry.path, target)
