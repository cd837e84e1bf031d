"""Child processes: how they are started, watched and stopped, and what is recorded of them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from pulumi_mlops.files import read_json, remove_tree, write_private
from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.stackdir import StackDir

_VARIABLE = re.compile(r"\$\(([A-Z_][A-Z0-9_]*)\)")


def folder_of(root: StackDir, name: str) -> Path:
    """The folder of one program."""
    return root.path / "toy" / "programs" / name


def log_of(root: StackDir, name: str) -> Path:
    """The log of one program."""
    return root.folder("toy", "logs") / f"{name}.log"


def programs(root: StackDir) -> dict[str, dict[str, Any]]:
    """The records of all programs by name."""
    records = (root.path / "toy" / "programs").glob("*/program.json")
    return {path.parent.name: read_json(path) or {} for path in sorted(records)}


def free_port() -> int:
    """An unused port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def variables(environment: str, env: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """The variables of a program. `base` holds those that its own may refer to."""
    path = f"{environment}/venv/bin:{os.environ.get('PATH', '')}"
    result = {"HOME": os.environ.get("HOME", "/"), "PYTHONUNBUFFERED": "1", **base, "PATH": path}
    result["PYTHONPATH"] = f"{environment}/code"
    return result | {key: expand(value, base) for key, value in env.items()}


def expand(text: str, values: Mapping[str, str]) -> str:
    """`text` with each `$(NAME)` replaced."""
    return _VARIABLE.sub(lambda match: values.get(match[1], match[0]), text)


def command_line(environment: str, command: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """The command, with its program from the environment if it has it."""
    program, *arguments = [expand(argument, env) for argument in command]
    candidate = Path(environment, "venv", "bin", program)
    return [str(candidate) if candidate.exists() else program, *arguments]


def start(root: StackDir, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
    """Start a program that outlives the plugin, and record its process."""
    folder = root.folder("toy", "programs", name)
    with log_of(root, name).open("ab") as log:
        process = subprocess.Popen(
            command, env=dict(env), cwd=folder, stdout=log, stderr=log,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    record = {"pid": process.pid, "started": psutil.Process(process.pid).create_time()}
    write_private(folder / "program.json", json.dumps(record))


def is_running(root: StackDir, name: str) -> bool:
    """Whether the recorded process runs."""
    record = read_json(folder_of(root, name) / "program.json")
    return record is not None and _process(record) is not None


def stop(root: StackDir, name: str, seconds: float) -> None:
    """Stop a program, and kill it after `seconds`."""
    record = read_json(folder_of(root, name) / "program.json")
    process = _process(record) if record else None
    if process is None:
        return
    _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while _process(record) is not None:
        if time.monotonic() > deadline:
            _signal(process, signal.SIGKILL)
        time.sleep(0.05)


def remove(root: StackDir, name: str) -> None:
    """Remove the files of a program that is stopped."""
    remove_tree(folder_of(root, name))
    (root.path / "toy" / "logs" / f"{name}.log").unlink(missing_ok=True)


def wait_until_ready(root: StackDir, name: str, url: str, path: str | None, timeout: float) -> None:
    """Return once the program answers. Raises ResourceError if it ends or is too slow."""
    deadline = time.monotonic() + timeout
    while not _answers(url, path):
        if not is_running(root, name):
            raise ResourceError(f"it has ended:\n{log_of(root, name).read_text()[-2000:]}")
        if time.monotonic() > deadline:
            raise ResourceError(f"it is not ready after {timeout:g} s")
        time.sleep(0.05)


def _answers(url: str, path: str | None) -> bool:
    host, _, port = url.removeprefix("http://").rpartition(":")
    try:
        if path is None:
            socket.create_connection((host, int(port)), 2).close()
            return True
        with urllib.request.urlopen(url + path, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _process(record: Mapping[str, Any]) -> psutil.Process | None:
    """The process of a record. None if it has ended, or if its number was reused."""
    try:
        process = psutil.Process(record["pid"])
        same = abs(process.create_time() - record["started"]) < 1
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def _signal(process: psutil.Process, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
