"""Files on this machine: private writes in one step, JSON, removal, the end of a log."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any


def write_private(path: Path, text: str) -> None:
    """Replace `path` in one step by a file that only its owner can read.

    Not for concurrent writes of the same path: the name of the temporary file is fixed, so that the
    next write replaces what a killed write left.
    """
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def update_private(path: Path, text: str) -> bool:
    """As write_private, if `path` does not have the text already. Returns whether it was written.

    A write waits for the disk, which in a program with many endpoints takes seconds.
    """
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    write_private(path, text)
    return True


def read_json(path: Path) -> Any:
    """The JSON in `path`; None without the file, or if it is incomplete."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def parse_exports(text: str) -> dict[str, str]:
    """The variables that a shell would set from lines such as `export NAME='value'`."""
    words = shlex.split(text, comments=True)
    pairs = (word.partition("=") for word in words if "=" in word)
    return {key: value for key, _, value in pairs}


def remove_tree(path: Path) -> None:
    """Remove `path` and everything below it. A missing path is not an error."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.exists():
        shutil.rmtree(path)


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log, or a note that there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 32_768))
            text = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text[-lines:]) or "(the log is empty)"
