"""What can be checked of the documentation without an engine."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pulumi
import pytest
import yaml

from pulumi_mlops import config
from pulumi_mlops.cli import main as mlops
from pulumi_mlops.targets import registry

sys.path.insert(0, str(Path(__file__).parent))
from doc_commands import ELSEWHERE, HERE, INTERRUPTED, SUITE
from doc_pages import PAGES, REPOSITORY, Block, anchors, blocks, inline_code, links, text_of

LANGUAGES = {"", "console", "diff", "json", "python", "sh", "toml", "yaml"}
SCHEMA = json.loads((REPOSITORY / "stacks" / "schema.json").read_text())

_DEV_FILE = yaml.safe_load((REPOSITORY / "stacks" / "Pulumi.dev.yaml").read_text())
DEV = {"pipelines": _DEV_FILE["config"]["platform:pipelines"]}


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 200


def test_every_page_of_docs_is_in_both_indexes() -> None:
    pages = {Path(page).name for page in PAGES if page.startswith("docs/")} - {"README.md"}
    assert pages <= {Path(link).name for link in links("docs/README.md")}
    assert pages <= {Path(link).name for link in links("README.md")}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in links(page):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = ((REPOSITORY / page).parent / path).resolve() if path else REPOSITORY / page
        name = target.relative_to(REPOSITORY).as_posix()
        assert target.exists(), f"{page}: {link} does not exist"
        if anchor:
            assert anchor in anchors(name), f"{page}: {link}: there is no such heading"


def test_the_picture_is_small() -> None:
    picture = REPOSITORY / "docs" / "images" / "dashboard.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size <= 200 * 1024


@pytest.mark.parametrize("block", list(blocks()), ids=str)
def test_the_language_of_a_block_is_one_that_is_checked(block: Block) -> None:
    assert block.language in LANGUAGES
    assert "\n```" not in block.text


@pytest.mark.parametrize("block", list(blocks("yaml")), ids=str)
def test_yaml_is_valid(block: Block) -> None:
    for document in yaml.safe_load_all(block.text):
        if "config" in document:
            jsonschema.validate(document, SCHEMA)
            # A block shows a part of a stack file. Its endpoints may name pipelines of `dev`.
            config.parse({**DEV, **_parts(document["config"], "platform:")})
            for target, settings in _parts(document["config"], "mlops:").items():
                if model := target in registry.names() and registry.load(target).settings():
                    model.model_validate(settings)
        elif "plugins" in document:
            for provider in document["plugins"]["providers"]:
                assert set(provider) == {"name", "path"}
        else:
            assert {"apiVersion", "kind", "metadata", "spec"} <= set(document), (
                "neither stack configuration, nor Pulumi.yaml, nor a Kubernetes object"
            )


def _parts(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The values whose keys begin with the prefix. Encrypted ones are replaced by a text."""

    def plain(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return "text" if set(value) == {"secure"} else {k: plain(v) for k, v in value.items()}

    return {
        key.removeprefix(prefix): plain(value)
        for key, value in values.items()
        if key.startswith(prefix)
    }


@pytest.mark.parametrize("block", list(blocks("python", "json", "toml")), ids=str)
def test_code_compiles(block: Block) -> None:
    match block.language:
        case "python":
            compile(block.text, str(block), "exec")
        case "json":
            json.loads(block.text)
        case "toml":
            tomllib.loads(block.text)


def test_the_error_in_the_readme_is_the_one_that_users_see() -> None:
    endpoint = {"model": "m", "requirements": ["m"], "traffic": {"1": 90}}
    with pytest.raises(pulumi.RunError) as error:
        config.parse({"endpoints": {"penguins": endpoint}})
    assert f"error: {error.value}\n" in text_of("README.md")


@pytest.mark.parametrize("block", list(blocks("console", "sh")), ids=str)
def test_every_command_is_run_by_a_test(block: Block) -> None:
    assert block.commands()
    for command in block.commands():
        assert command in ELSEWHERE.get(block.page, {}) or command in HERE or command in SUITE, (
            f"{block}: no test runs `{command}`: see tests/docs/doc_commands.py"
        )


def test_the_table_has_no_command_that_is_not_documented() -> None:
    documented = {
        (block.page, command) for block in blocks("console", "sh") for command in block.commands()
    }
    commands = {command for _, command in documented}
    assert set(HERE) | set(SUITE) <= commands
    assert set(HERE) >= INTERRUPTED
    assert {(page, command) for page in ELSEWHERE for command in ELSEWHERE[page]} <= documented


@pytest.mark.parametrize(
    ("page", "command"), [(page, command) for page in ELSEWHERE for command in ELSEWHERE[page]]
)
def test_the_test_that_runs_a_command_exists(page: str, command: str) -> None:
    elsewhere = ELSEWHERE[page][command]
    text = (REPOSITORY / elsewhere.file).read_text()
    missing = [words for words in elsewhere.words if words not in text]
    assert not missing, f"{elsewhere.file} no longer runs `{command}` of {page}"


_OF_MAKE = {"ARGS", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL"}


@pytest.mark.parametrize("command", SUITE)
def test_commands_that_run_the_tests_do_so(command: str) -> None:
    # `make test ARGS=…` hands its variables to every make below it.
    env = {key: value for key, value in os.environ.items() if key not in _OF_MAKE}
    recipe = subprocess.run(
        ["bash", "-c", f"{command} --dry-run"],
        cwd=REPOSITORY, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert SUITE[command] in recipe.stdout


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_sentences_exist(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        mlops(["--help"])
    subcommands = capsys.readouterr().out
    targets = text_of("Makefile")
    for code in inline_code(page):
        program, _, rest = code.partition(" ")
        name = rest.split(" ")[0]
        if not name or name.startswith("-"):
            continue
        if program == "make":
            assert f"\n{name}: " in targets, f"{page}: `{code}`: there is no such target"
        elif program == "mlops":
            assert f"\n    {name} " in subcommands, f"{page}: `{code}`: there is no such command"


_PLACEHOLDER = re.compile(r"^\W*(?:[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\W*$|(?:TODO|TBD|FIXME|XXX)\b)")
"""A line that is only a name in capitals, such as MEASURED_TABLE, or that starts with a mark."""


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_no_line_is_a_placeholder(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    assert [line for line in text.splitlines() if _PLACEHOLDER.match(line)] == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("MEASURED_TABLE", True),
        ("<!-- MEASURED_TABLE -->", True),
        ("{{MEASURED_TABLE}}", True),
        ("TODO: the figures", True),
        ("| TBD | 3.11 |", True),
        ("AWS_ENDPOINT_URL is read by botocore", False),
        ("MLFLOW", False),
        ("| MLOPS_QUEUE_SECONDS | 10 |", False),
    ],
)
def test_placeholders_are_recognized(line: str, expected: bool) -> None:
    assert bool(_PLACEHOLDER.match(line)) is expected


def test_a_class_name_means_one_thing() -> None:
    package = REPOSITORY / "components" / "pulumi_mlops"
    names = Counter(
        node.name
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []
