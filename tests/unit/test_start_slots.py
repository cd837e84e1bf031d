"""Starts in turns, at a lower priority."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pulumi_mlops.runtime.model_server import start_slots
from pulumi_mlops.runtime.model_server.start_slots import NICE, low_priority, start_slot

STOP = threading.Event()
HOLDER = """
import sys, threading, time
from pathlib import Path
from pulumi_mlops.runtime.model_server.start_slots import start_slot
with start_slot(Path(sys.argv[1]), threading.Event(), 1):
    print("held", flush=True)
    time.sleep(600)
"""


def test_no_more_at_a_time_than_slots(tmp_path: Path) -> None:
    lock = threading.Lock()
    running, most, ended = 0, 0, 0

    def start() -> None:
        nonlocal running, most, ended
        with start_slot(tmp_path / "starts", STOP, 2):
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.05)
            with lock:
                running -= 1
                ended += 1

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, ended) == (2, 6)


def test_a_killed_holder_frees_its_slot(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    entered = threading.Event()

    def start() -> None:
        with start_slot(tmp_path, STOP, 1):
            entered.set()

    thread = threading.Thread(target=start)
    thread.start()
    assert not entered.wait(0.5)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert entered.wait(30)
    thread.join()


def test_a_load_that_hangs_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_slots, "MAX_WAIT_SECONDS", 0.3)
    with start_slot(tmp_path, STOP, 1), start_slot(tmp_path, STOP, 1):
        pass


def test_a_folder_that_cannot_be_used_is_no_limit(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with start_slot(tmp_path / "file" / "starts", STOP, 1), start_slot(None, STOP, 1):
        pass


def nice_of_this_thread() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_only_the_loading_thread_has_a_lower_priority() -> None:
    seen: dict[str, int] = {}
    before = nice_of_this_thread()
    if before >= NICE:
        pytest.skip("the tests run at a lower priority themselves")
    pool_ready, end = threading.Event(), threading.Event()

    def pool() -> None:
        seen["pool, loading"] = nice_of_this_thread()
        pool_ready.set()
        end.wait()
        seen["pool, ready"] = nice_of_this_thread()

    def load() -> None:
        with low_priority():
            seen["loading"] = nice_of_this_thread()
            thread = threading.Thread(target=pool)
            thread.start()
            pool_ready.wait()
        end.set()
        thread.join()

    loader = threading.Thread(target=load)
    loader.start()
    pool_ready.wait()
    seen["serving"] = nice_of_this_thread()
    loader.join()
    # Without the right to raise a priority, a pool that began while loading keeps its own.
    ready = before if os.geteuid() == 0 else NICE
    assert seen == {
        "loading": NICE, "pool, loading": NICE, "serving": before, "pool, ready": ready,
    }  # fmt: skip
