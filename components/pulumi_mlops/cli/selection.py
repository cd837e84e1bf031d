"""Which stack a command is about, and which of its parts a name means."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..sources import find_project
from ..stackdir import RESERVED_NAMES, StackDir, path_problem
from ..targets import registry


class CommandError(Exception):
    """Something is wrong. The message says what, and the fix."""


class UsageError(CommandError):
    """The command names something that does not exist."""


@dataclass(frozen=True)
class Stack:
    """One environment of a project."""

    name: str
    project: str
    """The project's name in Pulumi.yaml."""
    folder: Path
    """The folder of Pulumi.yaml."""
    files: Path
    """The stack's folder on this machine. It may be missing."""
    target: str
    """`mlops:target`"""
    settings: Mapping[str, Any]
    """The target's own settings, `mlops:<target>`, as the stack's file has them."""

    @property
    def root(self) -> StackDir:
        """The stack's folder."""
        return StackDir(self.files)


def project_folder(given: Path | None) -> Path:
    """The project folder: `--project`, or the nearest with a Pulumi.yaml."""
    if given is not None and not given.is_dir():
        raise UsageError(f"--project: {given} is not a folder: name the folder of Pulumi.yaml")
    return find_project(given)


def named_stack(given: str | None) -> str | None:
    """The stack that `--stack`, PULUMI_STACK or STACK names."""
    name = given or os.environ.get("PULUMI_STACK") or os.environ.get("STACK")
    # Pulumi also accepts organization/project/stack.
    return name.rpartition("/")[2] if name else None


def stacks_in(folder: Path) -> list[str]:
    """The stacks that have files in a folder of stacks."""
    if not folder.is_dir():
        return []
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and entry.name not in RESERVED_NAMES and any(entry.iterdir())
    )


def find_stack(project: Path, name: str | None) -> Stack:
    """The stack called `name`. Default: the only stack with files on this machine.

    Raises UsageError with the stacks that exist.
    """
    default = project / ".mlops"
    if name is not None:
        if name not in {*_configured(project), *stacks_in(default)}:
            raise UsageError(f"stack {name!r} has nothing in {default}: {_existing(project)}")
        return _stack(project, name)
    found = {*stacks_in(default)}
    # The files of a stack may be elsewhere (mlops:dataDir).
    found |= {
        each for each in _configured(project) if each in stacks_in(data_folder(project, each))
    }
    if len(found) != 1:
        problem = "several stacks: name one with --stack" if found else f"no stack in {default}"
        raise UsageError(f"{problem}: {_existing(project, sorted(found))}")
    return _stack(project, found.pop())


def _stack(project: Path, name: str) -> Stack:
    config = _config(project, name)
    target = config.get("mlops:target") or registry.DEFAULT
    settings = config.get(f"mlops:{target}")
    return Stack(
        name=name,
        project=str(read_yaml(project / "Pulumi.yaml").get("name") or project.name),
        folder=project,
        files=data_folder(project, name) / name,
        target=str(target),
        settings=settings if isinstance(settings, dict) else {},
    )


def _config(project: Path, stack: str) -> Mapping[str, Any]:
    """The `config` of the stack's file; empty without one."""
    file = _config_files(project).get(stack)
    config = read_yaml(file).get("config") if file else None
    return config if isinstance(config, dict) else {}


def _configured(project: Path) -> list[str]:
    return sorted(_config_files(project))


def data_folder(project: Path, stack: str) -> Path:
    """The folder of the stacks' folders: mlops:dataDir, or `.mlops` of the project."""
    folder = _config(project, stack).get("mlops:dataDir")
    if isinstance(folder, str):
        # A relative path starts at the working folder of the program and the plugin.
        main = str(read_yaml(project / "Pulumi.yaml").get("main") or ".")
        if (problem := path_problem(folder, project / main)) is not None:
            raise CommandError(f"stack {stack!r}: mlops:dataDir: {problem}")
        return (project / main / Path(folder).expanduser()).absolute()
    return project / ".mlops"


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file; empty without a file. Raises CommandError if it is invalid."""
    import yaml  # noqa: PLC0415 - few commands need it

    try:
        found = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as error:
        # The position only: the text may contain a secret.
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise CommandError(f"{file}{where} cannot be read as YAML") from None
    return found if isinstance(found, dict) else {}


def resource_of(program: str) -> str:
    """The resource of a program: `a-v1.2-0` → `a-v1`, `b.route` → `b`."""
    name = program.removesuffix(".route")
    if name == program:
        name = re.sub(r"-\d+$", "", name)
    return re.sub(r"\.\d+$", "", name)


def component_of(name: str) -> str:
    """The component of a resource or program: its children are named `<component>-<suffix>`."""
    resource = resource_of(name)
    return resource.rpartition("-")[0] or resource


def matching(name: str, known: Iterable[str]) -> list[str]:
    """The names in `known` that `name` selects.

    In this order: the exact name; the replicas of the resource with this name; names that contain
    it as whole words; names that contain it.
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


def select_logs(name: str, known: Sequence[str]) -> list[str]:
    """The logs that `name` selects: one, or all of one component.

    Raises UsageError with the names that exist.
    """
    found = matching(name, known)
    if not found:
        raise UsageError(f"there is no log of {name!r}: there are {', '.join(known) or 'no logs'}")
    if len({component_of(each) for each in found}) > 1:
        raise UsageError(f"{name!r} is ambiguous: {', '.join(found)}")
    return found


def select_job(pipeline: str, known: list[str]) -> str:
    """The job that `pipeline` selects. Raises UsageError with the jobs that exist."""
    found = matching(pipeline, known)
    if not found:
        raise UsageError(f"there is no job {pipeline!r}: there are {', '.join(known) or 'no jobs'}")
    if len(found) > 1:
        raise UsageError(f"{pipeline!r} is ambiguous: {', '.join(found)}")
    return found[0]


def _config_files(project: Path) -> dict[str, Path]:
    """The stacks' files by stack."""
    folder = project / str(read_yaml(project / "Pulumi.yaml").get("stackConfigDir") or ".")
    found = folder.glob("Pulumi.*.yaml")
    return {file.name[len("Pulumi.") : -len(".yaml")]: file for file in sorted(found)}


def _existing(project: Path, provisioned: list[str] | None = None) -> str:
    """What a message says of the stacks that exist."""
    if provisioned is None:
        provisioned = stacks_in(project / ".mlops")
    configured = [name for name in _configured(project) if name not in provisioned]
    parts = [f"there is {', '.join(provisioned)}"] if provisioned else []
    parts += [f"configured, with no files here: {', '.join(configured)}"] if configured else []
    return "; ".join(parts) or f"nothing is provisioned here. {provision_hint('NAME')}"


def provision_hint(stack: str) -> str:
    """How to provision an environment. A deleted stack must be created again first."""
    return f"To provision it: `pulumi stack select --create {stack}`, then `pulumi up`"
