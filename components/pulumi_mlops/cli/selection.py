"""Which stack a command is about, and which of its things a name means."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..provider.local.stackdir import StackDir
from ..sources import find_project

# What a target makes in the folder of a stack; the state of a file backend may be beside it.
_PARTS = (
    "programs", "jobs", "routes", "envs", "volumes", "secrets", "files", "logs", "ports.json",
    "images",
)  # fmt: skip


class CommandError(Exception):
    """Something is wrong; the text says what, and the fix."""


class UsageError(CommandError):
    """The command was given something that is not there."""


@dataclass(frozen=True)
class Stack:
    """One environment of a project, and where its files are."""

    name: str
    root: StackDir


@dataclass(frozen=True)
class ClusterStack:
    """One environment of a project, on a cluster."""

    name: str
    project: str
    """What Pulumi.yaml calls the project."""
    folder: Path
    """Where Pulumi.yaml is."""
    files: Path
    """What this machine keeps of the stack, if anything."""
    settings: Mapping[str, Any]
    """`mlops:kubernetes`, as it stands in the stack's file."""


def project_folder(given: Path | None) -> Path:
    """The folder of Pulumi.yaml that `--project` names, or the nearest one."""
    if given is not None and not given.is_dir():
        raise UsageError(f"--project: {given} is no folder; name the one that has Pulumi.yaml")
    return find_project(given)


def named_stack(given: str | None) -> str | None:
    """The stack that `--stack` or the environment names."""
    name = given or os.environ.get("PULUMI_STACK") or os.environ.get("STACK")
    # Pulumi takes organization/project/stack as well.
    return name.rpartition("/")[2] if name else None


def stacks_in(folder: Path) -> list[str]:
    """The stacks that have something in a folder of stacks."""
    if not folder.is_dir():
        return []
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and any((entry / part).exists() for part in _PARTS)
    )


def find_stack(project: Path, name: str | None) -> Stack:
    """The stack `name`, or the only one that has something on this machine.

    Raises UsageError naming those that do.
    """
    default = project / ".mlops"
    if name is not None:
        base = data_folder(project, name)
        if name in stacks_in(base):
            return Stack(name, StackDir(base / name))
        raise UsageError(f"stack {name!r} has nothing in {base}: {_there_is(stacks_in(default))}")
    # A stack may keep its files elsewhere (mlops:dataDir).
    found = {stack: default for stack in stacks_in(default)}
    for file in _config_files(project):
        stack = file.name[len("Pulumi.") : -len(".yaml")]
        if stack not in found and stack in stacks_in(data_folder(project, stack)):
            found[stack] = data_folder(project, stack)
    if len(found) != 1:
        which = "which stack? --stack NAME says it" if found else f"no stack in {default}"
        raise UsageError(f"{which}: {_there_is(sorted(found))}")
    ((only, base),) = found.items()
    return Stack(only, StackDir(base / only))


def find_target(project: Path, name: str | None) -> Stack | ClusterStack:
    """The stack `name`, or the only one that has something on this machine, wherever it runs.

    Raises UsageError naming those that are there.
    """
    if name is not None and (there := cluster_stack(project, name)) is not None:
        return there
    try:
        found = find_stack(project, name)
    except UsageError as error:
        if name is None and (others := _cluster_stacks(project)):
            raise UsageError(f"{error}; --stack takes those of a cluster: {others}") from None
        raise
    # What its images are made of is kept here for a stack of a cluster, too.
    return cluster_stack(project, found.name) or found


def cluster_stack(project: Path, name: str) -> ClusterStack | None:
    """The stack `name` if its file says that its target is a cluster."""
    for file in _config_files(project):
        # Most stacks are of this machine: a look at the text spares the parser.
        if file.name != f"Pulumi.{name}.yaml" or "kubernetes" not in file.read_text():
            continue
        config = read_yaml(file).get("config")
        if not isinstance(config, dict) or config.get("mlops:target") != "kubernetes":
            continue
        settings = config.get("mlops:kubernetes")
        return ClusterStack(
            name=name,
            project=str(read_yaml(project / "Pulumi.yaml").get("name") or project.name),
            folder=project,
            files=data_folder(project, name) / name,
            settings=settings if isinstance(settings, dict) else {},
        )
    return None


def data_folder(project: Path, stack: str) -> Path:
    """Where the stacks' folders are: `.mlops` of the project, or what mlops:dataDir says."""
    for file in _config_files(project):
        if file.name == f"Pulumi.{stack}.yaml" and "dataDir" in file.read_text():
            config = read_yaml(file).get("config")
            told = config.get("mlops:dataDir") if isinstance(config, dict) else None
            if isinstance(told, str):
                return (project / Path(told).expanduser()).absolute()
    return project / ".mlops"


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file; empty when there is none. Raises CommandError if it is broken."""
    import yaml  # noqa: PLC0415 - few commands need it

    try:
        found = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as error:
        # Only where: the text around it may hold a secret.
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise CommandError(f"{file}{where} cannot be read as YAML") from None
    return found if isinstance(found, dict) else {}


def resource_of(program: str) -> str:
    """What a program is a replica or generation of: `a-v1.2-0` → `a-v1`, `b.route` → `b`."""
    name = program.removesuffix(".route")
    if name == program:
        name = re.sub(r"-\d+$", "", name)
    return re.sub(r"\.\d+$", "", name)


def component_of(name: str) -> str:
    """Whose child it is: children are called `<component>-<what>`."""
    resource = resource_of(name)
    return resource.rpartition("-")[0] or resource


def matching(name: str, known: Iterable[str]) -> list[str]:
    """Those of `known` that `name` means.

    The one that is called so; else the replicas of what is called so; else those that have it as
    whole words; else those that have it anywhere.
    """
    names = sorted(known)
    word = re.compile(rf"(?<![^-.]){re.escape(name)}(?![^-.])")
    for means in (
        lambda each: each == name,
        lambda each: resource_of(each) == name,
        lambda each: bool(word.search(each)),
        lambda each: name in each,
    ):
        if found := [each for each in names if means(each)]:
            return found
    return []


def _config_files(project: Path) -> list[Path]:
    folder = project
    if (file := project / "Pulumi.yaml").exists():
        folder = project / str(read_yaml(file).get("stackConfigDir") or ".")
    return sorted(folder.glob("Pulumi.*.yaml"))


def _cluster_stacks(project: Path) -> str:
    names = (file.name[len("Pulumi.") : -len(".yaml")] for file in _config_files(project))
    return ", ".join(name for name in names if cluster_stack(project, name) is not None)


def _there_is(names: list[str]) -> str:
    if names:
        return f"there is {', '.join(names)}"
    return "nothing is provisioned here; `pulumi up` does that"
