"""Claims of ports: one owner each, and none left over by a process that was killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.stackdir import StackDir
from pulumi_mlops.targets.local.host import ports


class Killed(BaseException):
    """The process ended here."""


def _held(root: StackDir) -> list[tuple[str, int]]:
    return sorted(
        (owner, int(file.name)) for file, (stack, owner) in ports.claims().items()
        if stack == root.path
    )  # fmt: skip


def _dies_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Whatever touches a file ends the process at the `moment`-th time, before it is done."""
    left = [moment]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*arguments, **options)

        return call

    monkeypatch.setattr(ports, "write_private", counted(ports.write_private))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))


@pytest.fixture
def root(tmp_path: Path) -> StackDir:
    return StackDir(tmp_path / "stack")


@pytest.mark.parametrize("moment", range(3))
@pytest.mark.parametrize("wanted", [None, "other"])
def test_a_claim_that_is_killed_leaves_nothing_over(
    root: StackDir, monkeypatch: pytest.MonkeyPatch, moment: int, wanted: str | None
) -> None:
    ports.claim(root, "neighbour")
    first = ports.claim(root, "owner") if wanted else None
    port = None if first is None else ports.claim(root, "spare")
    if port is not None:
        ports.release(root, "spare")
    with monkeypatch.context() as patch:
        _dies_at(patch, moment)
        with contextlib.suppress(Killed):
            ports.claim(root, "owner", port)
    now = ports.claim(root, "owner", port)
    assert _held(root) == sorted([("neighbour", ports.assigned(root)["neighbour"]), ("owner", now)])
    ports.release(root, "owner")
    ports.release(root, "neighbour")
    assert _held(root) == []


@pytest.mark.parametrize("moment", range(2))
def test_a_release_that_is_killed_is_finished_by_the_next(
    root: StackDir, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    ports.claim(root, "owner")
    with monkeypatch.context() as patch:
        _dies_at(patch, moment)
        with pytest.raises(Killed):
            ports.release(root, "owner")
    ports.release(root, "owner")
    assert _held(root) == []


def test_a_port_that_another_stack_took_meanwhile_is_refused(tmp_path: Path) -> None:
    """The claim of a killed process may be lost: what it remembers is then nobody's."""
    mine, other = StackDir(tmp_path / "mine"), StackDir(tmp_path / "other")
    port = ports.claim(mine, "owner")
    Path(f"/tmp/mlops-{os.getuid()}-ports/{port}").unlink()
    ports.claim(other, "owner", port)
    with pytest.raises(ports.ResourceError, match=f"port {port} is taken by the stack in"):
        ports.claim(mine, "owner", port)
    assert ports.claim(mine, "owner") != port
    ports.release(mine, "owner")
    ports.release(other, "owner")
