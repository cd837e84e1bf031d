"""Programs that run to completion: by the plugin, by a schedule, or by hand.

A job is defined once, in `jobs/<name>/spec.json`, and run any number of times, never twice at the
same time. Each run has a log, `logs/<name>.log`; the five before it are kept as `.1` to `.5`.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ....files import read_json, remove_tree, tail, write_private
from ....plugin.errors import ResourceError
from ....stackdir import StackDir
from . import launch

_KEPT_LOGS = 5


@dataclass(frozen=True)
class Job:
    """What is run. `env` gets MLOPS_OUTPUTS beside, the file where the program may leave JSON."""

    name: str
    command: list[str]
    env: dict[str, str]
    cwd: Path
    timeout_seconds: float


@dataclass(frozen=True)
class Result:
    """How a run ended. `outputs` is what the program wrote to MLOPS_OUTPUTS, or empty."""

    exit_code: int
    outputs: dict[str, Any]
    seconds: float


def last(root: StackDir, name: str) -> dict[str, Any] | None:
    """How the latest run went, or None when there was none: `started` (seconds since the epoch),
    `exit_code` and `seconds`, both absent while it goes on or when it was killed with its
    runner, and `reason` when it was ended before its end."""
    found = read_json(root.path / "jobs" / name / "last.json")
    return found if isinstance(found, dict) else None


def is_running(root: StackDir, name: str) -> bool:
    """Whether a run of `name` is under way."""
    # Not by its lock: asking would hold it for a moment, in which a run could not begin.
    return bool(launch.find(_cookie(root, name)))


def log_of(root: StackDir, name: str) -> Path:
    """The log of the latest run."""
    return root.path / "logs" / f"{name}.log"


def define(root: StackDir, job: Job) -> None:
    """Say what `job.name` is from now on."""
    folder = root.folder("jobs", job.name)
    spec = {
        **asdict(job),
        "env": {**job.env, "MLOPS_OUTPUTS": str(folder / "outputs.json")},
        "cwd": str(job.cwd),
        "cookie": _cookie(root, job.name),
        "stop_seconds": 5,
    }
    write_private(folder / "spec.json", json.dumps(spec, indent=1))


def definition(root: StackDir, name: str) -> Job | None:
    """The job as it was defined, or None."""
    found = read_json(root.path / "jobs" / name / "spec.json")
    if not found:
        return None
    fields = {key: found[key] for key in Job.__dataclass_fields__}
    return Job(**{**fields, "cwd": Path(fields["cwd"])})


def names(root: StackDir) -> list[str]:
    """Every job that is defined."""
    folder = root.path / "jobs"
    if not folder.exists():
        return []
    return sorted(entry.name for entry in folder.iterdir() if (entry / "spec.json").exists())


def forget(root: StackDir, name: str, *, keep_logs: bool = False) -> None:
    """End a run that is under way and remove the definition and, unless told, the logs."""
    launch.end(_cookie(root, name), 5)
    remove_tree(root.path / "jobs" / name)
    if keep_logs:
        return
    for log in (root.path / "logs").glob(f"{name}.log*"):
        log.unlink(missing_ok=True)


def run(
    root: StackDir,
    name: str,
    on_line: Callable[[str], None],
    cancelled: threading.Event,
) -> Result:
    """Run `name` now and wait for its end; `on_line` gets each line that it prints.

    Raises ResourceError when it is unknown, runs already, takes too long, or `cancelled` is set;
    its processes have ended then.
    """
    if (job := definition(root, name)) is None:
        known = ", ".join(names(root)) or "none"
        raise ResourceError(f"there is no job {name!r}: the jobs of this stack are {known}")
    folder = root.path / "jobs" / name
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResourceError(f"{name} is running already: wait for it to end") from None
        return _run(root, job, folder, on_line, cancelled)


def _run(
    root: StackDir,
    job: Job,
    folder: Path,
    on_line: Callable[[str], None],
    cancelled: threading.Event,
) -> Result:
    outputs = folder / "outputs.json"
    outputs.unlink(missing_ok=True)
    log = _rotated(root, job.name)
    started = time.monotonic()
    account: dict[str, Any] = {"started": time.time()}
    write_private(folder / "last.json", json.dumps(account))
    with log.open("wb") as file:
        # The launcher ends what a killed run left behind, then becomes the program. It is tied
        # to this thread, which waits here until it ends.
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", launch.__file__, str(folder / "spec.json")],
            env={},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    reason = ""
    with log.open(errors="replace") as lines:
        while process.poll() is None:
            _pass_on(lines, on_line)
            if cancelled.wait(0.1):
                reason = "interrupted"
            elif time.monotonic() - started > job.timeout_seconds:
                reason = f"not done after {job.timeout_seconds:g} s (input timeoutSeconds)"
            if reason:
                # A launcher that has just begun carries no cookie yet.
                while process.poll() is None:
                    launch.end(_cookie(root, job.name), 5)
                    time.sleep(0.05)
        _pass_on(lines, on_line)
    launch.end(_cookie(root, job.name), 0)  # what it left running
    account |= {"exit_code": process.returncode, "seconds": time.monotonic() - started}
    write_private(
        folder / "last.json", json.dumps({**account, **({"reason": reason} if reason else {})})
    )
    if reason:
        raise ResourceError(f"{job.name}: {reason}. Its last log lines:\n{tail(log)}")
    found = read_json(outputs)
    return Result(
        exit_code=process.returncode,
        outputs=found if isinstance(found, dict) else {},
        seconds=time.monotonic() - started,
    )


def _pass_on(lines: Any, on_line: Callable[[str], None]) -> None:
    while line := lines.readline():
        on_line(line.rstrip("\n"))


def _rotated(root: StackDir, name: str) -> Path:
    log = root.folder("logs") / f"{name}.log"
    for number in range(_KEPT_LOGS, 0, -1):
        older = log.with_name(f"{name}.log.{number - 1}") if number > 1 else log
        if older.exists():
            older.replace(log.with_name(f"{name}.log.{number}"))
    return log


def _cookie(root: StackDir, name: str) -> str:
    return f"{root.path}:job:{name}"
