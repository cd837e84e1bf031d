"""Limits what the start of a model server takes from the servers that are ready.

Importing MLflow and loading a model keep a core busy for seconds. The servers of one machine do it
in turns: each takes one of as many slots as there are cores. A slot is a lock on a file, which the
kernel releases when the process ends. The loading thread has a lower priority than those that
answer requests; nice values belong to threads on Linux.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

NICE = 3
"""About half of the CPU time of a thread that answers requests, where both want a core. With less,
a start on a busy machine would not end within `startup_timeout`."""
MAX_WAIT_SECONDS = 60.0
"""Then a server starts without a slot: another load may hang."""
_POLL_SECONDS = 0.1
# Their thread pools begin with the import, and keep the priority of the importing thread.
_POOLS = ("numpy", "scipy.linalg")


@contextlib.contextmanager
def start_slot(
    folder: Path | None, stop: threading.Event, slots: int | None = None
) -> Iterator[None]:
    """Wait for a slot in `folder` and hold it. Without a folder there is no limit."""
    if folder is None:
        yield
        return
    with contextlib.ExitStack() as held:
        try:
            _take(folder, stop, slots or _cores(), held)
        except OSError as error:
            logger.warning("starts are not limited: %s: %s", folder, error)
        yield


def _take(folder: Path, stop: threading.Event, slots: int, held: contextlib.ExitStack) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    waited = False
    while time.monotonic() < deadline and not stop.is_set():
        for number in range(slots):
            file = (folder / f"{number}.lock").open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
            else:
                held.callback(file.close)
                return
        if not waited:
            logger.info("waiting for one of %d starts at a time", slots)
            waited = True
        stop.wait(_POLL_SECONDS)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def low_priority() -> Iterator[None]:
    """Run the calling thread at a lower priority.

    Threads that it starts inherit the priority. At the end they get the previous one, where the
    process may raise it (as root, or with RLIMIT_NICE).
    """
    for name in _POOLS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    thread = threading.get_native_id()
    before = os.getpriority(os.PRIO_PROCESS, thread)
    threads = _threads()
    os.setpriority(os.PRIO_PROCESS, thread, max(before, NICE))
    try:
        yield
    finally:
        for each in {thread} | (_threads() - threads):
            with contextlib.suppress(OSError):  # not allowed, or the thread has ended
                if os.getpriority(os.PRIO_PROCESS, each) >= NICE:
                    os.setpriority(os.PRIO_PROCESS, each, before)


def _threads() -> set[int]:
    """The threads of this process; empty where the system does not list them."""
    with contextlib.suppress(OSError):
        return {int(entry.name) for entry in Path("/proc/self/task").iterdir()}
    return set()
