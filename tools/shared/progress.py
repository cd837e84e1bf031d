"""Run long commands and say how far they are."""

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

PROGRESS_SECONDS = 5


class ToolError(Exception):
    """A tool cannot do its work; the message says why and what helps."""


class Speaker:
    """Who speaks: the tool that this process is."""

    name = "tools"


def say(message: str) -> None:
    print(f"{Speaker.name}: {message}", file=sys.stderr, flush=True)


def numbers(version: str) -> tuple[int, ...]:
    """`v3.250.0-dev` and `go1.26.8` as numbers that compare; empty when there are none."""
    found = re.search(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def version_of(command: Sequence[str]) -> str | None:
    """What a version command prints, or None when it cannot be run."""
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
    """Run a long command, saying every few seconds how far it is; its output shows if it fails."""
    last: deque[str] = deque(maxlen=25)
    begun = time.monotonic()
    # A session of its own: Ctrl-C comes to this script alone, which then ends the whole group.
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
    over, late = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(PROGRESS_SECONDS):
            elapsed = time.monotonic() - begun
            say(status(elapsed))
            if limit_seconds is not None and elapsed > limit_seconds:
                late.set()
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
        over.set()
        end_group(child)
        watcher.join()
    if late.is_set():
        raise ToolError(f"{command[0]} did not end within {limit_seconds:.0f} s")
    if code != 0:
        raise ToolError("\n  ".join([f"{' '.join(command[:2])} failed ({code}):", *last]))


def end_group(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
