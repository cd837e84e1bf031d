"""Which stack a command is about, and which things a name means."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from pulumi_mlops.cli import _parser
from pulumi_mlops.cli.selection import (
    CommandError,
    UsageError,
    component_of,
    find_stack,
    matching,
    named_stack,
    project_folder,
    read_yaml,
    resource_of,
    stacks_in,
)
from pulumi_mlops.files import remove_tree


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Pulumi.yaml").write_text("name: p\nruntime: python\nstackConfigDir: stacks\n")
    (tmp_path / "stacks").mkdir()
    return tmp_path


def _stack(folder: Path, name: str) -> None:
    (folder / name / "programs").mkdir(parents=True)


def test_the_only_stack_is_the_default_and_the_state_is_no_stack(project: Path) -> None:
    _stack(project / ".mlops", "dev")
    (project / ".mlops" / "state" / ".pulumi").mkdir(parents=True)
    assert stacks_in(project / ".mlops") == ["dev"]
    _stack(project / ".mlops", "cluster")  # an environment as any other
    assert stacks_in(project / ".mlops") == ["cluster", "dev"]
    remove_tree(project / ".mlops" / "cluster")
    found = find_stack(project, None)
    assert (found.name, found.root.path) == ("dev", project / ".mlops" / "dev")


def test_several_stacks_are_named(project: Path) -> None:
    for name in ("dev", "prod"):
        _stack(project / ".mlops", name)
    with pytest.raises(UsageError, match=r"--stack.*there is dev, prod"):
        find_stack(project, None)
    assert find_stack(project, "prod").root.path == project / ".mlops" / "prod"


def test_an_unknown_stack_gets_those_that_are_there(project: Path) -> None:
    _stack(project / ".mlops", "dev")
    with pytest.raises(UsageError, match=r"'live' has nothing.*there is dev"):
        find_stack(project, "live")


def test_nothing_provisioned_says_how_to(project: Path) -> None:
    with pytest.raises(UsageError, match="pulumi up"):
        find_stack(project, None)
    assert not (project / ".mlops").exists()


@pytest.mark.parametrize("name", ["dev", None])
def test_a_stack_may_keep_its_files_elsewhere(project: Path, tmp_path: Path, name: str) -> None:
    disk = tmp_path / "disk"
    _stack(disk, "dev")
    config = project / "stacks" / "Pulumi.dev.yaml"
    config.write_text(f"config:\n  mlops:dataDir: {disk}\n")
    assert find_stack(project, name).root.path == disk / "dev"


def test_the_environment_names_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULUMI_STACK", raising=False)
    monkeypatch.delenv("STACK", raising=False)
    assert named_stack(None) is None
    monkeypatch.setenv("STACK", "one")
    assert named_stack(None) == "one"
    monkeypatch.setenv("PULUMI_STACK", "organization/platform/two")
    assert named_stack(None) == "two"
    assert named_stack("three") == "three"


def test_the_project_is_found_from_below_and_must_be_a_folder(project: Path) -> None:
    assert project_folder(project / "stacks") == project
    with pytest.raises(UsageError, match="is not a folder"):
        project_folder(project / "missing")


def test_broken_yaml_is_told_without_its_text(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: 1\npassword: [hidden-value\nb: }")
    with pytest.raises(CommandError, match="line 3") as caught:
        read_yaml(file)
    assert "hidden-value" not in str(caught.value)


PLATFORM = [
    "platform-artifacts-server-0",
    "platform-penguins-endpoint-route.route",
    "platform-penguins-endpoint-v1.1-0",
    "platform-penguins-endpoint-v1.1-1",
    "platform-penguins-endpoint-v10.1-0",
    "platform-penguins-pipeline-job",
    "platform-tracking-server-0",
]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("tracking", [6]),
        ("platform-tracking-server-0", [6]),
        ("platform-tracking-server", [6]),
        ("track", [6]),
        ("penguins-endpoint", [1, 2, 3, 4]),
        ("endpoint-v1", [2, 3]),
        ("platform-penguins-endpoint-v1", [2, 3]),
        ("endpoint-v1.1-1", [3]),
        ("pipeline", [5]),
        ("oracle", []),
    ],
)
def test_names(name: str, found: list[int]) -> None:
    assert matching(name, PLATFORM) == [PLATFORM[index] for index in found]


@pytest.mark.parametrize(
    ("program", "resource", "component"),
    [
        ("p-endpoint-v1.2-0", "p-endpoint-v1", "p-endpoint"),
        ("p-endpoint-route.route", "p-endpoint-route", "p-endpoint"),
        ("p-pipeline-job", "p-pipeline-job", "p-pipeline"),
        ("p-server-12", "p-server", "p"),
        ("supervisord", "supervisord", "supervisord"),
    ],
)
def test_whose_a_program_is(program: str, resource: str, component: str) -> None:
    assert resource_of(program) == resource
    assert component_of(program) == component


def test_options_stand_before_or_after_the_command() -> None:
    def parsed(*arguments: str) -> argparse.Namespace:
        return _parser().parse_args(arguments)

    assert parsed("status", "--stack", "a").stack == "a"
    assert parsed("--stack", "a", "status").stack == "a"
    assert parsed("--stack", "a", "status", "--stack", "b").stack == "b"
    assert parsed("status").stack is None
