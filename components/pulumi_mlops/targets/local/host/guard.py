"""Starts supervisord again when it is killed. A program of supervisord itself.

Each watches the other: supervisord restarts this program, and this program, which the kernel
informs of the end of its parent, has supervisord started again. An orderly end of supervisord stops
this program first.

Run as `python -I -S guard.py PYTHON STACK_FOLDER`. It uses only the standard library, to need
little memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

NAME = "guard"
"""Its name under supervisord. Names of other programs end with a number or `.route`."""
STARTER = "pulumi_mlops.targets.local.host.starter"
_COOKIE = "MLOPS_PROGRAM"
_PR_SET_PDEATHSIG = 1
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


def command(python: str, folder: Path) -> list[str]:
    """The command that runs this program for the stack in `folder`."""
    return [python, "-I", "-S", __file__, python, str(folder)]


def cookie(folder: Path | str) -> str:
    """The value of the variable that marks its process; see launch.py."""
    return f"{folder}:daemon:{NAME}"


def main(arguments: Sequence[str]) -> None:
    """Wait until supervisord, the parent, has ended, and have it started again."""
    python, folder = arguments
    if os.environ.get(_COOKIE) != cookie(folder):
        # It has that of supervisord, by which the processes of a killed supervisord are ended.
        words = [sys.executable, "-I", "-S", *sys.argv]
        os.execve(sys.executable, words, _environment(folder))  # noqa: S606
    parent = os.getppid()
    signals = {signal.SIGUSR1, signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
    # The parent may have ended before this call.
    if os.getppid() == parent and signal.sigwait(signals) != signal.SIGUSR1:
        return
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals - {signal.SIGUSR1})
    home, pause = Path(folder, "supervisor"), _FIRST_PAUSE
    while home.is_dir():
        time.sleep(pause)
        if _start(python, folder, home / f"{NAME}.log"):
            return
        pause = min(2 * pause, _LONGEST_PAUSE)


def _start(python: str, folder: str, file: Path) -> bool:
    """Run the starter. Returns whether it succeeded; not if the disk or the memory is full."""
    try:
        # Standard output is a pipe to the supervisord that has ended.
        with file.open("ab", buffering=0) as log:
            with contextlib.suppress(OSError):
                line = f"{time.strftime('%F %T')} supervisord has ended and is started again\n"
                log.write(line.encode())
            started = subprocess.run(
                [python, "-m", STARTER, folder],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            )
    except OSError:
        return False
    return started.returncode == 0


def _environment(folder: str) -> Mapping[str, str]:
    kept = {name: each for name, each in os.environ.items() if not name.startswith("SUPERVISOR_")}
    return {**kept, _COOKIE: cookie(folder)}


if __name__ == "__main__":
    main(sys.argv[1:])
