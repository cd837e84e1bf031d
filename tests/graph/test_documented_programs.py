"""The Pulumi programs in the documentation, on Pulumi's mocks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs"))
from doc_pages import Block, blocks

PROGRAMS = [block for block in blocks("python") if "import pulumi_mlops" in block.text]


def test_there_are_programs() -> None:
    assert len(PROGRAMS) >= 4


@pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])
@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_a_documented_program_registers_its_components(
    block: Block, preview: bool, project: Path, provision: Any
) -> None:
    code = compile(block.text, str(block), "exec")
    graph = provision(lambda: exec(code, {"__name__": "__main__"}), preview=preview)
    assert graph.of("mlops:s3:Bucket")
    assert all(each.parent for each in graph.of("mlops:s3:Bucket").values())
