"""No target's name stands outside its package: a new target changes no file of the project."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulumi_mlops.targets import registry

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "components" / "pulumi_mlops"
NAMES = registry.names("pulumi-mlops")
ALLOWED = {
    # The target of a stack without `mlops:target`.
    ("components/pulumi_mlops/targets/registry.py", "local"),
    # Type tokens are recorded in states. This one is older than the targets' packages.
    ("components/pulumi_mlops/plugin/file.py", "mlops:local:File"),
    ("components/pulumi_mlops/plugin/sdk.py", "mlops:local:File"),
    # The value of GOTOOLCHAIN that forbids the download of another Go.
    ("tools/shared/go_build.py", "local"),
    ("tools/shared/progress.py", "local"),
}
TOOLS_OF_TARGETS = ("bench", "cluster")
"""Folders of `tools` whose subject is a target: its benchmarks, and a Kubernetes for tests."""


def names_a_target(text: str) -> bool:
    """Whether a string literal or a module path is, or refers to, a target by name."""
    choice = "|".join(map(re.escape, NAMES))
    return bool(
        re.fullmatch(choice, text)
        or re.search(rf"\btargets[./]({choice})\b|\bmlops:({choice})\b", text)
    )


def literals_and_imports(source: str) -> Iterator[str]:
    """The string literals of a module, docstrings excepted, and the modules that it imports."""
    tree = ast.parse(source)
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in documentation:
                yield node.value
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)


def python_files() -> list[Path]:
    own = [PACKAGE / "targets" / name for name in NAMES]
    files = [file for file in PACKAGE.rglob("*.py") if not any(map(file.is_relative_to, own))]
    tools = PROJECT / "tools"
    return [
        *files,
        *(
            file
            for file in tools.rglob("*.py")
            if not any(map(file.is_relative_to, (tools / name for name in TOOLS_OF_TARGETS)))
        ),
    ]


def test_the_package_brings_targets() -> None:
    assert len(NAMES) >= 2
    for name in NAMES:
        assert (PACKAGE / "targets" / name / "adapter.py").is_file()


@pytest.mark.parametrize("file", python_files(), ids=lambda file: str(file.relative_to(PROJECT)))
def test_no_module_names_a_target(file: Path) -> None:
    where = str(file.relative_to(PROJECT))
    found = {
        text
        for text in literals_and_imports(file.read_text())
        if names_a_target(text) and (where, text) not in ALLOWED
    }
    assert not found, f"{where} names a target: {sorted(found)}: ask the registry instead"


def test_no_lint_rule_names_a_target() -> None:
    tools = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]
    found = [text for text in texts(tools) if names_a_target(text)]
    markers = {marker.partition(":")[0] for marker in tools["pytest"]["ini_options"]["markers"]}
    assert not set(found) - markers


def test_no_recipe_names_a_target() -> None:
    """A recipe may name a target of make or a folder of tests, such as `make test-<target>`."""
    for line in (PROJECT / "Makefile").read_text().splitlines():
        if line.startswith("\t"):
            recipe = re.sub(r"tests/\w+|-m '?[\w ]+'?", "", line)
            for name in NAMES:
                assert not re.search(rf"targets[./]{name}\b|['\"]{name}['\"]|={name}\b", recipe), (
                    line
                )


def test_the_check_finds_names() -> None:
    name = NAMES[0]
    for source in (
        f"x = {name!r}", f"import pulumi_mlops.targets.{name}",
        f"from pulumi_mlops.targets import {name}", f"x = 'see mlops:{name}.setting'",
    ):  # fmt: skip
        assert any(map(names_a_target, literals_and_imports(source))), source
    assert not any(map(names_a_target, literals_and_imports(f'"""{name}"""\nx = "a {name} file"')))


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from texts(key)
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)
