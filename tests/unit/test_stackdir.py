"""The folder of a stack."""

from __future__ import annotations

from pathlib import Path

from pulumi_mlops.stackdir import StackDir


def test_prune_waits_for_the_last_resource_of_any_target(tmp_path: Path) -> None:
    """A target may have folders of its own. Their programs use sockets in the runtime folder."""
    root = StackDir(tmp_path / ".mlops" / "dev")
    of_a_target = root.folder("toy", "programs")
    log = root.folder("logs") / "a.log"
    log.write_text("a line\n")
    sockets = root.socket_folder("a")
    root.prune()
    assert sockets.exists() and log.exists()
    of_a_target.rmdir()
    of_a_target.parent.rmdir()
    root.prune()
    assert not sockets.exists() and not root.path.exists()


def test_prune_keeps_retained_data(tmp_path: Path) -> None:
    root = StackDir(tmp_path / ".mlops" / "dev")
    (root.folder("volumes", "a") / "data").write_text("kept")
    root.folder("logs")
    root.prune()
    assert [entry.name for entry in root.path.iterdir()] == ["volumes"]


def test_prune_keeps_what_servers_have_not_written(tmp_path: Path) -> None:
    root = StackDir(tmp_path / ".mlops" / "dev")
    root.folder("spool", "predictions", "a")
    (root.folder("spool", "predictions", "b") / "1.segment").write_text("kept")
    root.prune()
    assert [entry.name for entry in (root.path / "spool" / "predictions").iterdir()] == ["b"]
    (root.path / "spool" / "predictions" / "b" / "1.segment").unlink()
    root.prune()
    assert not root.path.exists()
