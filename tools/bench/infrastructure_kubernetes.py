"""What the components cost on top of pulumi_kubernetes, and how that grows.

As infrastructure.py measures the local platform: CPU seconds, no cluster, registry or server
contributes, and the hand-written program registers the same resources with literal inputs.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, progress
from infrastructure_project import Project, config_of, stubbed_plugins
from infrastructure_ratios import (
    CREATE_LIMIT,
    compare,
    described,
    growth_figure,
    least,
    no_changes,
)
from infrastructure_written import PROGRAM, module_of, module_of_many


def unchanged(smoke: bool) -> Iterator[Figure]:
    """No-op commands of a platform on a cluster over those of the hand-written program."""
    endpoints = 1 if smoke else 20
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as name:
        folder = Path(name)
        ours, reference = pair(folder, stubbed_plugins(folder / "plugins"), endpoints)
        title = f"cluster: {endpoints} endpoints"
        yield from no_changes(title, ours, reference, pairs=1 if smoke else 5)


def create(smoke: bool) -> Iterator[Figure]:
    """First previews with few and many endpoints, and creation of many."""
    few, many = (2, 3) if smoke else (50, 200)
    rounds = 1 if smoke else 2
    cpu: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as name:
        folder = Path(name)
        plugins = stubbed_plugins(folder / "plugins")
        for count in (0, few, many):
            ours = Project(folder / f"ours-{count}", config_of("cluster", count), plugins)
            cpu[count] = least(ours.first_preview() for _ in range(rounds))
            progress(f"{count} endpoints: first preview {cpu[count]:.1f} s")
        yield growth_figure("cluster: first preview", cpu, 1.2)
        # A new project: the previews wrote the contexts of the images already.
        ours = Project(folder / "components", config_of("cluster", many), plugins)
        reference = hand_written_many(folder, many, plugins)
        created = (ours.create(), reference.create())
        progress(f"{many} endpoints, created: {described(created)}")
        if planned(ours) != planned(reference):
            raise RuntimeError(f"not the same: {planned(ours)} and {planned(reference)} resources")
        yield compare(f"cluster: create {many}", [created], CREATE_LIMIT)
        if not smoke:  # `unchanged` runs the same steps
            yield from no_changes(f"cluster: {many} endpoints", ours, reference, pairs=1)


def pair(folder: Path, plugins: Path, endpoints: int) -> tuple[Project, Project]:
    """The platform of stacks/, and the hand-written program of the same resources, both up."""
    progress(f"{endpoints} endpoints on a cluster, and the same resources by hand …")
    ours = Project(folder / "components", config_of("cluster", endpoints), plugins)
    ours.create()
    reference = Project(folder / "hand-written", config_of("cluster", endpoints), plugins)
    reference.write("resources.py", module_of(ours.state()))
    reference.write("__main__.py", PROGRAM)
    reference.create()
    return ours, reference


def hand_written_many(folder: Path, endpoints: int, plugins: Path) -> Project:
    """A program, not up yet, of so many endpoints (at least 2); generated from a stack of two."""
    like = Project(folder / "like", config_of("cluster", 2), plugins)
    like.create()
    project = Project(folder / "hand-written", config_of("cluster", endpoints), plugins)
    names = [f"endpoint-{number:03}" for number in range(2, endpoints)]
    project.write("resources.py", module_of_many(like.state(), "endpoint-001", names))
    project.write("__main__.py", PROGRAM)
    return project


def planned(project: Project) -> int:
    """How many resources the last command created, or in a preview would create."""
    found = re.search(
        r"\+ (\d+) (?:to create|created)", (project.folder / "pulumi.log").read_text()
    )
    if found is None:
        raise RuntimeError("the command does not say how many resources it creates")
    return int(found[1])
