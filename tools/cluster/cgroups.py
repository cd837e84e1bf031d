"""The control group of all pods of a cluster, in each hierarchy of the machine."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

from progress import ToolError

ROOT = Path("/sys/fs/cgroup")
SECONDS_TO_END = 30


def create(name: str) -> None:
    """Create the group and enable all controllers of its hierarchies."""
    for hierarchy in hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group of version 1
            if (group / setting).exists() and not (group / setting).read_text().strip():
                (group / setting).write_text((hierarchy / setting).read_text())
        offered = hierarchy / "cgroup.controllers"
        if hierarchy == ROOT and offered.exists():
            for each in offered.read_text().split():
                with contextlib.suppress(OSError):
                    (hierarchy / "cgroup.subtree_control").write_text(f"+{each}")


def remove(name: str) -> None:
    """Remove the group and its subgroups. Their processes must have ended."""
    for hierarchy in hierarchies():
        remove_tree(hierarchy / name)


def hierarchies() -> list[Path]:
    """The roots of control groups: one for version 2, or one for each controller of version 1."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    if not ROOT.exists():
        return []
    return sorted(
        each
        for each in ROOT.iterdir()
        if each.is_dir() and not each.is_symlink() and (each / "cgroup.procs").exists()
    )


def remove_tree(group: Path) -> None:
    """Remove a control group and its subgroups. Their processes must have ended."""
    if not group.exists():
        return
    end = time.monotonic() + SECONDS_TO_END
    for folder, _, _ in os.walk(group, topdown=False):
        while True:
            try:
                Path(folder).rmdir()
                break
            except FileNotFoundError:
                break
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > end:
                    raise ToolError(f"{folder} cannot be removed: {error}") from error
                time.sleep(0.05)
