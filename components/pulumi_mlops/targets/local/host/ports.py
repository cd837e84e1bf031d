"""TCP ports of the loopback interface. Each has one owner among all stacks of this user.

A claim is a file in a folder that all stacks of a user share, so that two concurrent updates never
choose the same port. A stack records its ports in `ports.json`, so that its URLs do not change.
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

# Below the range that Linux uses for outgoing connections (32768 and up).
_FIRST, _COUNT = 20_000, 10_000


def claim(root: StackDir, owner: str, requested: int | None = None) -> int:
    """Claim a port for `owner`: `requested`, or by default its previous or an unused port.

    The first candidate is derived from the name of the owner. Raises ResourceError if another
    stack or program uses `requested`.
    """
    with _claims_folder() as folder:
        own_ports = _read_ports(root)
        if (
            requested is None
            and owner in own_ports
            and _claimant(folder, own_ports[owner]) in (None, root.path)
        ):
            port = own_ports[owner]
        elif requested is not None:
            if own_ports.get(owner) != requested or _claimant(folder, requested) not in (
                None,
                root.path,
            ):
                other_ports = {name: port for name, port in own_ports.items() if name != owner}
                _check_unused(folder, root, requested, other_ports)
            port = requested
        else:
            start = int(hashlib.sha256(f"{root.path}:{owner}".encode()).hexdigest(), 16) % _COUNT
            candidates = (_FIRST + (start + step) % _COUNT for step in range(_COUNT))
            port = next(
                (
                    port
                    for port in candidates
                    if _claimant(folder, port) is None
                    and port not in own_ports.values()
                    and is_free(port)
                ),
                0,
            )
            if not port:
                raise ResourceError(f"no unused port between {_FIRST} and {_FIRST + _COUNT - 1}")
        # This order never leaves a claim that no stack records, even if the process is killed.
        if (previous := own_ports.get(owner)) not in (None, port) and _claimant(
            folder, previous
        ) == root.path:
            (folder / str(previous)).unlink(missing_ok=True)
        write_private(
            root.folder() / "ports.json", json.dumps({**own_ports, owner: port}, indent=1)
        )
        write_private(folder / str(port), json.dumps({"stack": str(root.path), "owner": owner}))
        return port


def check(root: StackDir, owner: str, requested: int) -> None:
    """Raise the errors of `claim` without a claim."""
    with _claims_folder() as folder:
        own_ports = _read_ports(root)
        if own_ports.get(owner) != requested:
            _check_unused(folder, root, requested, own_ports)


def assigned(root: StackDir) -> dict[str, int]:
    """The ports of this stack by owner."""
    return _read_ports(root)


def claims() -> dict[Path, tuple[Path, str]]:
    """All claims of this user: maps the file of a claim to its stack folder and owner."""
    found = {}
    with _claims_folder() as folder:
        for file in folder.iterdir():
            claim = read_json(file) if file.name.isdigit() else None
            if claim:
                found[file] = (Path(claim["stack"]), str(claim["owner"]))
    return found


def owners(root: StackDir) -> list[str]:
    """All owners of ports in this stack."""
    return list(_read_ports(root))


def release(root: StackDir, owner: str) -> None:
    """Release the port of `owner`. It is not an error if it has none."""
    with _claims_folder() as folder:
        own_ports = _read_ports(root)
        port = own_ports.pop(owner, None)
        if port is None:
            return
        if _claimant(folder, port) == root.path and port not in own_ports.values():
            (folder / str(port)).unlink(missing_ok=True)
        if own_ports:
            write_private(root.folder() / "ports.json", json.dumps(own_ports, indent=1))
        else:
            (root.path / "ports.json").unlink(missing_ok=True)


@contextlib.contextmanager
def _claims_folder() -> Iterator[Path]:
    folder = Path(f"/tmp/mlops-{os.getuid()}-ports")  # noqa: S108 - owner checked
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise ResourceError(f"{folder} belongs to another user: remove it")
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield folder


def _read_ports(root: StackDir) -> dict[str, int]:
    return read_json(root.path / "ports.json") or {}


def _claimant(folder: Path, port: int) -> Path | None:
    """The stack folder that claims `port`. Claims of stacks without a folder are ignored."""
    found = read_json(folder / str(port))
    if not found or not (Path(found["stack"]) / "ports.json").exists():
        return None
    return Path(found["stack"])


def _check_unused(folder: Path, root: StackDir, port: int, ports: dict[str, int]) -> None:
    fix = "choose another, or remove the input to use an unused port"
    for owner, assigned in ports.items():
        if assigned == port:
            raise ResourceError(f"port {port} is taken by {owner} of this stack: {fix}")
    claimant = _claimant(folder, port)
    if claimant not in (None, root.path):
        raise ResourceError(f"port {port} is taken by the stack in {claimant}: {fix}")
    if not is_free(port):
        raise ResourceError(f"port {port} is taken{_listener(port)}: {fix}")


def _listener(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listening = connection.status == psutil.CONN_LISTEN
            if listening and connection.laddr[1:] == (port,) and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""
