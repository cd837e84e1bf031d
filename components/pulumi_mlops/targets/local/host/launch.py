"""Starts one program, which ends together with its parent process and never runs twice.

Run as `python -I -S launch.py SPEC.json`. It uses only the standard library, to start fast. The
program replaces this process. All its processes have a cookie in their environment variables.
Processes of an earlier start that was killed are found by that cookie and ended first.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

COOKIE = "MLOPS_PROGRAM"
STARTED = "started"
"""The file with the digest of the definition that was started last."""
_PR_SET_PDEATHSIG = 1


def find(cookie: str) -> list[int]:
    """The ids of the processes with `cookie`, without this process."""
    variable = f"{COOKIE}={cookie}".encode()
    pids = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if variable in (entry / "environ").read_bytes().split(b"\0"):
                pids.append(int(entry.name))
    return pids


def end(cookie: str, seconds: float, spared: int | None = None) -> None:
    """End all processes with `cookie` but `spared`: SIGTERM, and SIGKILL after `seconds`."""
    deadline = time.monotonic() + seconds
    terminated: set[int] = set()
    while pids := [pid for pid in find(cookie) if pid != spared and not _is_zombie(pid)]:
        forced = time.monotonic() > deadline
        for pid in pids:
            if forced or pid not in terminated:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if forced else signal.SIGTERM)
                terminated.add(pid)
        time.sleep(0.05)


def die_with_parent() -> None:
    """Receive SIGTERM when the thread that started this process ends (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except (OSError, IndexError):
        return True


def main() -> None:
    """Replace this process by the program that the file in the first argument defines."""
    parent = os.getppid()
    spec = json.loads(Path(sys.argv[1]).read_text())
    end(spec["cookie"], spec["stop_seconds"])
    die_with_parent()
    if os.getppid() != parent:
        sys.exit(1)
    if scratch := spec.get("scratch"):
        shutil.rmtree(scratch, ignore_errors=True)
        Path(scratch).mkdir(mode=0o700, parents=True, exist_ok=True)
    if digest := spec.get("digest"):
        # The program starts on a full disk, too. Without the file the next update restarts it.
        with contextlib.suppress(OSError):
            Path(sys.argv[1]).with_name(STARTED).write_text(digest)
    os.chdir(spec["cwd"])
    environment = {**spec["env"], COOKIE: spec["cookie"]}
    try:
        os.execvpe(spec["command"][0], spec["command"], environment)  # noqa: S606
    except OSError as error:
        sys.exit(f"cannot start {spec['command'][0]}: {error.strerror}")


if __name__ == "__main__":
    main()
