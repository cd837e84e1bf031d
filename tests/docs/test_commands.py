"""The commands of the documentation, run as a reader runs them: block by block, in one shell."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from doc_commands import ELSEWHERE, HERE, SUITE
from doc_pages import Block, blocks
from doc_reader import Checkout

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]


def commands_here(block: Block) -> list[str]:
    """The commands of a block that this file runs."""
    others = {*ELSEWHERE.get(block.page, {}), *SUITE}
    return [command for command in block.commands() if command not in others]


BLOCKS = [block for block in blocks("console", "sh") if commands_here(block)]
CHANGES_FILES = {"CONTRIBUTING.md", "pipelines/penguins_mlflow/README.md"}
"""Pages with commands that change files of the checkout."""
DELETES = [block for block in BLOCKS if "make down" in block.commands()]
CHANGES = [block for block in BLOCKS if block.page in CHANGES_FILES]
RENDERS = [block for block in BLOCKS if block.page == "docs/gitops.md"]
USES = [block for block in BLOCKS if block not in [*DELETES, *CHANGES, *RENDERS]]
CANARY = ("pulumi preview --diff", "pulumi up")


def run(block: Block, checkout: Checkout) -> None:
    """Run a block. Each command's output must contain what the table says."""
    for tool in ("curl", "jq"):
        if tool in block.text and shutil.which(tool) is None:
            pytest.fail(f"{tool} is not on PATH: the documentation uses it")
    commands = commands_here(block)
    output = checkout.run(*commands)
    missing = [command for command in commands if HERE[command] not in output]
    assert not missing, output


@pytest.mark.parametrize("block", USES, ids=str)
def test_commands_on_a_platform(block: Block, platform: Checkout) -> None:
    run(block, platform)


@pytest.mark.parametrize("block", CHANGES, ids=str)
def test_commands_that_change_files(block: Block, scratch: Checkout) -> None:
    run(block, scratch)


@pytest.mark.parametrize("block", RENDERS, ids=str)
def test_commands_that_publish_manifests(block: Block, rendering: Checkout) -> None:
    run(block, rendering)


def test_the_output_of_make_up_is_the_one_in_the_readme(platform: Checkout) -> None:
    output = platform.run("make up")
    (documented,) = [block for block in blocks("") if block.text.startswith("dev:\n")]
    labels = [line[:21].rstrip() for line in documented.text.splitlines()]
    assert [line[:21].rstrip() for line in output.splitlines() if line[:21].rstrip() in labels] == (
        labels
    )
    answer = platform.run(output.rpartition("Try it:\n")[2].strip())
    assert json.loads(answer) == {"predictions": ["Gentoo"]}


def test_the_preview_of_a_canary_is_the_documented_one(platform: Checkout) -> None:
    (documented,) = blocks("diff")
    output = platform.run(*CANARY)
    for line in documented.text.splitlines():
        assert line.strip() == "…" or f"{line}\n" in output, output


@pytest.mark.parametrize(
    "block", [each for each in blocks("python") if "mlflow" in each.text], ids=str
)
def test_clients_of_the_tracking_server(block: Block, platform: Checkout) -> None:
    file = platform.folder / "client.py"
    file.write_text(block.text)
    output = platform.run("source .mlops/dev/files/client.env", f"python {file}")
    assert output.strip() == block.text.strip().rpartition("# ")[2]


@pytest.mark.parametrize("block", DELETES, ids=str)
def test_commands_that_delete_the_platform(block: Block, platform: Checkout) -> None:
    run(block, platform)
    assert not list((platform.folder / ".mlops" / "state").glob(".pulumi/stacks/*/dev.json"))
