"""Runs long commands and prints their progress."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from packaging.version import Version

PROGRESS_SECONDS = 5


class ToolError(Exception):
    """A tool failed. The message names the cause and the fix."""


class Speaker:
    """The name of the running tool, the prefix of its messages."""

    name = "tools"


def say(message: str) -> None:
    print(f"{Speaker.name}: {message}", file=sys.stderr, flush=True)


def release(text: str) -> Version:
    """The release number in `v3.250.0-alpha.1` or `go1.26.8`; 0 without one."""
    match = re.search(r"\d+(?:\.\d+)*", text)
    return Version(match[0] if match else "0")


def version_of(command: Sequence[str]) -> str | None:
    """The output of a version command; None if it fails."""
    env = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true", "GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def run(
    command: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    *,
    status: Callable[[float], str],
    on_line: Callable[[str], None] = lambda line: None,
    limit_seconds: float | None = None,
) -> None:
    """Run a long command and print `status` every few seconds. Raises ToolError with its output."""
    last: deque[str] = deque(maxlen=25)
    started = time.monotonic()
    # A new session: only this script receives Ctrl-C, and then ends the whole process group.
    child = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    finished, timed_out = threading.Event(), threading.Event()

    def watch() -> None:
        while not finished.wait(PROGRESS_SECONDS):
            elapsed = time.monotonic() - started
            say(status(elapsed))
            if limit_seconds is not None and elapsed > limit_seconds:
                timed_out.set()
                end_group(child)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        assert child.stdout is not None  # noqa: S101 - it is a pipe
        for line in child.stdout:
            last.append(line.rstrip())
            on_line(line)
        code = child.wait()
    finally:
        finished.set()
        end_group(child)
        watcher.join()
    if timed_out.is_set():
        raise ToolError(f"{command[0]} did not end within {limit_seconds:.0f} s")
    if code != 0:
        raise ToolError("\n  ".join([f"{' '.join(command[:2])} failed ({code}):", *last]))


def end_group(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
