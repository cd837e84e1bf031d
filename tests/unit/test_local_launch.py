"""The folder of a program that is emptied at each start."""

from __future__ import annotations

from pathlib import Path

from pulumi_mlops.targets.local.host import launch


def test_a_start_empties_the_scratch_folder_but_for_its_state(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    launch.empty(scratch)
    (scratch / "state" / "predictions").mkdir(parents=True)
    (scratch / "old" / "model").mkdir(parents=True)
    (scratch / "file").touch()
    (scratch / "link").symlink_to(tmp_path)
    launch.empty(scratch)
    assert [entry.name for entry in scratch.iterdir()] == ["state"]
    assert (scratch / "state" / "predictions").is_dir()
    assert tmp_path.exists()
