"""The volumes of a stack on this machine: their size, and whether programs can write to them."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ....cli.terminal import size

_PROBE_BYTES = 65_536
_MIN_FREE = 0.01


@dataclass(frozen=True)
class LocalVolumeStatus:
    """A volume and its size on disk."""

    name: str
    healthy: bool
    path: str
    bytes: int
    reason: str
    """Why nothing can be written to it; otherwise empty."""


def folders(path: Path) -> list[Path]:
    """The folders in `path`; empty without it."""
    return sorted(entry for entry in path.iterdir() if entry.is_dir()) if path.exists() else []


def examine(folder: Path) -> LocalVolumeStatus:
    """The status of the volume in `folder`."""
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                total += Path(parent, file).lstat().st_blocks * 512
            except OSError:
                continue  # removed in the meantime
    reason = _write_problem(folder)
    return LocalVolumeStatus(folder.name, not reason, str(folder), total, reason)


def _write_problem(folder: Path) -> str:
    """Why a program cannot store data in `folder`, by a write; empty if it can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"nothing can be written to it: {error.strerror}"
    disk = shutil.disk_usage(folder)
    if disk.free < _MIN_FREE * disk.total:
        # SeaweedFS stops writing below this limit (-volume.minFreeSpacePercent).
        return f"its disk is full: {size(disk.free)} of {size(disk.total)} are free"
    return ""
