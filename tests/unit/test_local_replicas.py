"""The definitions of the replicas of a process, and what stays when they are removed."""

from __future__ import annotations

from pathlib import Path

from pulumi_mlops.stackdir import StackDir
from pulumi_mlops.targets.local.resources import replicas
from pulumi_mlops.targets.local.resources.process import ProcessInputs


def spool_of(root: StackDir, resource_id: str, inputs: ProcessInputs) -> Path:
    return Path(replicas.definition(root, resource_id, 0, inputs, {"http": 8080}).env["SPOOL"])


def test_the_next_generation_has_the_spool_of_a_removed_server(tmp_path: Path) -> None:
    root = StackDir(tmp_path / ".mlops" / "dev")
    inputs = ProcessInputs(
        command=["true"], env={"SPOOL": "$(SPOOL_DIR)/e"}, environment=str(tmp_path), routed=True
    )
    first = spool_of(root, "web.1", inputs)
    first.mkdir(parents=True)
    (first / "1.segment").write_text("records")
    second = spool_of(root, "web.2", inputs)
    replicas.remove(root, "web.1")
    assert second == first
    assert (second / "1.segment").read_text() == "records"
    plain = ProcessInputs(command=["true"], environment=str(tmp_path))
    env = replicas.definition(root, "db", 0, plain, {"http": 8080}).env
    assert "SPOOL_DIR" not in env
