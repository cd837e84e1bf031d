"""Where one stack keeps its files on this machine.

<project>/.mlops/<stack>/
    envs/        virtual environments and code snapshots
    programs/    one private folder for each program of the supervisor
    fetched/     files that services read, such as those of a model version
    jobs/        runs to completion: their specs and outputs
    routes/      the last requested table of each proxy, and its configuration
    logs/        one rotated file for each program and run
    volumes/     data
    spool/       what servers of an endpoint leave to the next ones
    secrets/     generated secrets (private)
    images/      the image catalog; see images/catalog.py
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .files import read_json, remove_tree, write_private

RESERVED_NAMES = frozenset({"passphrase", "state"})
"""Entries of `.mlops` that belong to the checkout. No stack may have their names."""


def name_problem(stack: str) -> str | None:
    """Why a stack cannot have this name; None when it can."""
    if stack.lower() not in RESERVED_NAMES:
        return None
    names = " or ".join(sorted(RESERVED_NAMES))
    return (
        f"a stack cannot be called {stack}: .mlops/{stack.lower()} belongs to the checkout, and "
        f"the files of the stack would be in it. Choose a name other than {names}"
    )


def data_folder_problem(text: str, base: Path) -> str | None:
    """Why no stack can keep files in the folder `text` (mlops:dataDir); None if it can.

    A relative path starts at `base`. Creates a folder for a moment, to find out.
    """
    if (problem := path_problem(text, base)) is not None:
        return problem
    folder = (base / Path(text).expanduser()).absolute()
    existing = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not existing.is_dir():
        return f"must be a folder: {existing} is not one"
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".mlops-"):
            return None
    except OSError as error:
        # A full disk is reported by what needs the space.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return None if full else f"must be writable: no folder can be created in {existing}"


def path_problem(text: str, base: Path) -> str | None:
    """Why `text` cannot be the path of a folder of stacks; None if it can."""
    if re.search(r"[\x00-\x1f\x7f]", text):
        return "must not contain a control character"
    try:
        encoded = os.fsencode((base / Path(text).expanduser()).absolute())
    except RuntimeError:
        return "names the home folder of a user who does not exist"
    except UnicodeEncodeError:
        return "must be Unicode text"
    if len(encoded) > _MAX_PATH or any(len(part) > _MAX_NAME for part in encoded.split(b"/")):
        return f"must have at most {_MAX_PATH} bytes, and {_MAX_NAME} in each name"
    return None


_MAX_PATH, _MAX_NAME = 1024, 255
_SHARED = frozenset({"files", "images", "logs", "secrets", "spool", "supervisor", "volumes"})
"""Folders in a stack folder that may stay when the last resource is deleted."""


@dataclass(frozen=True)
class StackDir:
    """The folder of one stack."""

    path: Path

    @property
    def key(self) -> str:
        """Ten characters that identify this stack on the machine."""
        return hashlib.sha256(str(self.path).encode()).hexdigest()[:10]

    def folder(self, *parts: str) -> Path:
        """A private folder below the stack folder, created if needed."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = self.path.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    @property
    def runtime(self) -> Path:
        """The folder of sockets. A Unix socket's path has at most 107 bytes, so it is short."""
        folder = Path("/tmp") / f"mlops-{os.getuid()}-{self.key}"  # noqa: S108 - owner checked
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
            raise PermissionError(f"{folder} belongs to another user: remove it")
        folder.chmod(0o700)
        return folder

    def socket_folder(self, name: str) -> Path:
        """A folder with a short path for the sockets of `name`."""
        folder = self.runtime / hashlib.sha256(name.encode()).hexdigest()[:6]
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock `name` of this stack across processes."""
        with (self.runtime / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def generation(self, kind: str, name: str) -> str:
        """A new physical id that is never reused: `name.1`, then `name.2`, `name.3`, …"""
        with self.lock("generations"):
            file = self.folder() / "generations.json"
            counts: dict[str, int] = read_json(file) or {}
            counts[f"{kind}/{name}"] = count = counts.get(f"{kind}/{name}", 0) + 1
            write_private(file, json.dumps(counts))
        return f"{name}.{count}"

    def prune(self, *, keep_logs: bool = False) -> None:
        """Remove leftover files once the last resource is deleted.

        Retained data stays. `keep_logs` keeps the logs, which show why a create failed.
        """
        if not self.path.exists():
            return
        self._remove_empty("envs", "fetched", "programs", "jobs", "routes", "volumes")
        for each, _, _ in os.walk(self.path / "spool", topdown=False):
            with contextlib.suppress(OSError):  # unwritten records stay
                Path(each).rmdir()
        # Other folders are those of a target. They hold something that is not deleted yet.
        if any(each.is_dir() and each.name not in _SHARED for each in self.path.iterdir()):
            return
        # Temporary files of killed writes; see write_private.
        for folder in (self.path, self.path / "secrets", self.path / "files"):
            for unfinished in folder.glob(".*.new"):
                unfinished.unlink(missing_ok=True)
        self._remove_empty("files", "secrets")
        if (self.path / "files").exists():
            return
        (self.path / "generations.json").unlink(missing_ok=True)
        if not keep_logs:
            remove_tree(self.path / "logs")
        remove_tree(self.runtime)
        for folder in (self.path, self.path.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _remove_empty(self, *names: str) -> None:
        for name in names:
            with contextlib.suppress(OSError):
                (self.path / name).rmdir()


def instances(folder: Path, name: str) -> list[str]:
    """The generations of `name` with an entry in `folder`."""
    if not folder.exists():
        return []
    return [entry.name for entry in folder.iterdir() if is_generation(entry.name, name)]


def is_generation(resource_id: str, name: str) -> bool:
    """Whether `StackDir.generation` returned `resource_id` for `name`."""
    base, _, count = resource_id.rpartition(".")
    return base == name and count.isdigit()
