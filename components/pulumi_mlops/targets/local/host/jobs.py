"""Jobs: programs that run to completion, started by an update, a schedule or a user.

`jobs/<name>/spec.json` defines a job. It can run any number of times, but only one run at a time.
The file has the secrets of the job in plain text, since schedules and `mlops run` have no access to
the state. Only its owner can read it, and it is removed with the job.
`logs/<name>.log` is the log of the latest run; those of the previous five end in `.1` to `.5`.
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

import httpx

from ....files import read_json, remove_tree, tail, write_private
from ....plugin.errors import ResourceError
from ....runtime.tracking_runs import close_runs, with_job_tag
from ....stackdir import StackDir
from . import launch

_PREVIOUS_LOGS = 5


@dataclass(frozen=True)
class Job:
    """The command of a job. MLOPS_OUTPUTS is added to `env`: a file for outputs as JSON."""

    name: str
    command: list[str]
    env: dict[str, str]
    cwd: Path
    timeout_seconds: float


@dataclass(frozen=True)
class RunResult:
    """The end of a run. `outputs` is the JSON object in MLOPS_OUTPUTS; empty without one."""

    exit_code: int
    outputs: dict[str, Any]
    seconds: float


def last_run(root: StackDir, name: str) -> dict[str, Any] | None:
    """The latest run, or None without one.

    Keys: `started` (seconds since the epoch), `exit_code` and `seconds` (absent during the run, and
    if the run was killed together with its runner), and `reason` if the run was cancelled.
    """
    stored = read_json(root.path / "jobs" / name / "last.json")
    return stored if isinstance(stored, dict) else None


def is_running(root: StackDir, name: str) -> bool:
    """Whether `name` is running."""
    # Does not test the lock: that would hold it for a moment, in which a run could not start.
    return bool(launch.find(_cookie(root, name)))


def log_of(root: StackDir, name: str) -> Path:
    """The log of the latest run."""
    return root.path / "logs" / f"{name}.log"


def define(root: StackDir, job: Job) -> None:
    """Write the definition of a job."""
    folder = root.folder("jobs", job.name)
    spec = {
        **asdict(job),
        "env": with_job_tag(
            {**job.env, "MLOPS_OUTPUTS": str(folder / "outputs.json")}, _job_tag(root, job.name)
        ),
        "cwd": str(job.cwd),
        "cookie": _cookie(root, job.name),
        "stop_seconds": 5,
    }
    write_private(folder / "spec.json", json.dumps(spec, indent=1))


def definition(root: StackDir, name: str) -> Job | None:
    """The definition of a job; None without one."""
    stored = read_json(root.path / "jobs" / name / "spec.json")
    if not stored:
        return None
    fields = {key: stored[key] for key in Job.__dataclass_fields__}
    return Job(**{**fields, "cwd": Path(fields["cwd"])})


def names(root: StackDir) -> list[str]:
    """The names of all defined jobs."""
    folder = root.path / "jobs"
    if not folder.exists():
        return []
    return sorted(entry.name for entry in folder.iterdir() if (entry / "spec.json").exists())


def remove(root: StackDir, name: str, *, keep_logs: bool = False) -> None:
    """End a current run, then remove the definition and, without `keep_logs`, the logs."""
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
) -> RunResult:
    """Run the job `name` and wait for its end. `on_line` is called with each line of output.

    Raises ResourceError if the job is not defined, is already running, exceeds its time limit, or
    if `cancelled` is set. Its processes have ended in each case.
    """
    if (job := definition(root, name)) is None:
        known = ", ".join(names(root)) or "none"
        raise ResourceError(f"there is no job {name!r}: the jobs of this stack are {known}")
    folder = root.path / "jobs" / name
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResourceError(f"{name} is already running: wait for it to end") from None
        return _run(root, job, folder, on_line, cancelled)


def _run(
    root: StackDir,
    job: Job,
    folder: Path,
    on_line: Callable[[str], None],
    cancelled: threading.Event,
) -> RunResult:
    outputs = folder / "outputs.json"
    outputs.unlink(missing_ok=True)
    previous = last_run(root, job.name)
    if previous is not None and "exit_code" not in previous:
        # The runner of the previous run was killed together with the job.
        launch.end(_cookie(root, job.name), 5)
        _close_runs(root, job, on_line)
    log = _rotate_logs(root, job.name)
    started = time.monotonic()
    record: dict[str, Any] = {"started": time.time()}
    write_private(folder / "last.json", json.dumps(record))
    with log.open("wb") as file:
        # The launcher ends processes of a killed run, then becomes the program. It ends together
        # with this thread, which waits for it here.
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
            _read_lines(lines, on_line)
            if cancelled.wait(0.1):
                reason = "interrupted"
            elif time.monotonic() - started > job.timeout_seconds:
                reason = f"not done after {job.timeout_seconds:g} s (input `timeoutSeconds`)"
            if reason:
                # A launcher that has just started has no cookie yet.
                while process.poll() is None:
                    launch.end(_cookie(root, job.name), 5)
                    time.sleep(0.05)
        _read_lines(lines, on_line)
    launch.end(_cookie(root, job.name), 0)  # processes that the program left running
    record |= {"exit_code": process.returncode, "seconds": time.monotonic() - started}
    write_private(
        folder / "last.json", json.dumps({**record, **({"reason": reason} if reason else {})})
    )
    if process.returncode != 0:
        _close_runs(root, job, on_line)
    if reason:
        raise ResourceError(f"{job.name}: {reason}. Its last log lines:\n{tail(log)}")
    stored = read_json(outputs)
    return RunResult(
        exit_code=process.returncode,
        outputs=stored if isinstance(stored, dict) else {},
        seconds=time.monotonic() - started,
    )


def _close_runs(root: StackDir, job: Job, on_line: Callable[[str], None]) -> None:
    """Close the runs on the tracking server that a job left open when it was killed."""
    try:
        if count := close_runs(job.env, _job_tag(root, job.name)):
            on_line(f"{count} MLflow run{'s' if count > 1 else ''} set to KILLED")
    except (httpx.HTTPError, ValueError) as error:
        on_line(f"open MLflow runs could not be closed: {type(error).__name__}")


def _job_tag(root: StackDir, name: str) -> str:
    """Several stacks may use the same tracking server."""
    return f"{root.key}/{name}"


def _read_lines(lines: Any, on_line: Callable[[str], None]) -> None:
    while line := lines.readline():
        on_line(line.rstrip("\n"))


def _rotate_logs(root: StackDir, name: str) -> Path:
    log = root.folder("logs") / f"{name}.log"
    for number in range(_PREVIOUS_LOGS, 0, -1):
        older = log.with_name(f"{name}.log.{number - 1}") if number > 1 else log
        if older.exists():
            older.replace(log.with_name(f"{name}.log.{number}"))
    return log


def _cookie(root: StackDir, name: str) -> str:
    return f"{root.path}:job:{name}"
