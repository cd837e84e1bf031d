"""Loopback ports: each has one owner, whichever stack of this user it belongs to.

A claim is a file of a folder that all stacks of a user share, so that two stacks that are brought
up at the same time never choose the same port. A stack remembers its own choices, so that URLs
stay the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from ....files import read_json, write_private
from ....plugin.errors import ResourceError
from ....runtime.net import is_free
from ....stackdir import StackDir

# Below the range that Linux hands out for outgoing connections (32768 and up).
_FIRST, _COUNT = 20_000, 10_000


def claim(root: StackDir, owner: str, wanted: int | None = None) -> int:
    """The port of `owner`: the one it had, `wanted`, or a free one that its name leads to.

    Raises ResourceError when `wanted` is held by another stack or program.
    """
    with _registry() as folder:
        mine = _remembered(root)
        if wanted is None and owner in mine and _holder(folder, mine[owner]) in (None, root.path):
            port = mine[owner]
        elif wanted is not None:
            if mine.get(owner) != wanted or _holder(folder, wanted) not in (None, root.path):
                others = {name: port for name, port in mine.items() if name != owner}
                _refuse_taken(folder, root, wanted, others)
            port = wanted
        else:
            start = int(hashlib.sha256(f"{root.path}:{owner}".encode()).hexdigest(), 16) % _COUNT
            candidates = (_FIRST + (start + step) % _COUNT for step in range(_COUNT))
            port = next(
                (
                    port
                    for port in candidates
                    if _holder(folder, port) is None and port not in mine.values() and is_free(port)
                ),
                0,
            )
            if not port:
                raise ResourceError(f"no free port between {_FIRST} and {_FIRST + _COUNT - 1}")
        # In this order nothing that ends in between leaves a claim that no stack remembers.
        if (before := mine.get(owner)) not in (None, port) and _holder(folder, before) == root.path:
            (folder / str(before)).unlink(missing_ok=True)
        write_private(root.folder() / "ports.json", json.dumps({**mine, owner: port}, indent=1))
        write_private(folder / str(port), json.dumps({"stack": str(root.path), "owner": owner}))
        return port


def check(root: StackDir, owner: str, wanted: int) -> None:
    """Raise ResourceError when `claim` would, without claiming."""
    with _registry() as folder:
        mine = _remembered(root)
        if mine.get(owner) != wanted:
            _refuse_taken(folder, root, wanted, mine)


def taken(root: StackDir) -> dict[str, int]:
    """The ports of this stack by owner."""
    return _remembered(root)


def claims() -> dict[Path, tuple[Path, str]]:
    """Every claim of this user: its file to the folder of the stack that holds it and the owner."""
    found = {}
    with _registry() as folder:
        for file in folder.iterdir():
            claim = read_json(file) if file.name.isdigit() else None
            if claim:
                found[file] = (Path(claim["stack"]), str(claim["owner"]))
    return found


def owners(root: StackDir) -> list[str]:
    """Every owner of a port in this stack."""
    return list(_remembered(root))


def release(root: StackDir, owner: str) -> None:
    """Give up the port of `owner`; no error when it has none."""
    with _registry() as folder:
        mine = _remembered(root)
        port = mine.pop(owner, None)
        if port is None:
            return
        if _holder(folder, port) == root.path and port not in mine.values():
            (folder / str(port)).unlink(missing_ok=True)
        if mine:
            write_private(root.folder() / "ports.json", json.dumps(mine, indent=1))
        else:
            (root.path / "ports.json").unlink(missing_ok=True)


@contextlib.contextmanager
def _registry() -> Iterator[Path]:
    folder = Path(f"/tmp/mlops-{os.getuid()}-ports")  # noqa: S108 - owner checked
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise ResourceError(f"{folder} belongs to somebody else: remove it")
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield folder


def _remembered(root: StackDir) -> dict[str, int]:
    return read_json(root.path / "ports.json") or {}


def _holder(folder: Path, port: int) -> Path | None:
    """The stack that holds `port`; a claim of a stack whose folder is gone does not count."""
    found = read_json(folder / str(port))
    if not found or not (Path(found["stack"]) / "ports.json").exists():
        return None
    return Path(found["stack"])


def _refuse_taken(folder: Path, root: StackDir, port: int, mine: dict[str, int]) -> None:
    fix = "choose another, or leave it out and a free one is taken"
    for owner, taken in mine.items():
        if taken == port:
            raise ResourceError(f"port {port} is taken by {owner} of this stack: {fix}")
    holder = _holder(folder, port)
    if holder not in (None, root.path):
        raise ResourceError(f"port {port} is taken by the stack in {holder}: {fix}")
    if not is_free(port):
        raise ResourceError(f"port {port} is taken{_by_whom(port)}: {fix}")


def _by_whom(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listening = connection.status == psutil.CONN_LISTEN
            if listening and connection.laddr[1:] == (port,) and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""
