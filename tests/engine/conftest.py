"""Projects for tests; each is destroyed after its test."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from platform_project import Commands, Project, belonging_to, claims, files_in


@pytest.fixture(scope="session")
def engine() -> None:
    if shutil.which("pulumi") is None:
        pytest.fail("there is no pulumi on PATH: `make test` puts the engine there")


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where every project of this session is; nothing of them may be left at the end."""
    folder = tmp_path_factory.mktemp("projects")
    yield folder
    left = [
        *(f"process {each.pid}: {' '.join(each.cmdline())}" for each in belonging_to(folder)),
        *(f"port {claim}" for claim in claims(folder)),
        # The log of a create that failed stays, even where nothing else was ever made.
        *(str(path) for path in files_in(*folder.glob("**/.mlops")) if path.parent.name != "logs"),
    ]
    assert not left, "left over:\n" + "\n".join(left)


@pytest.fixture
def project(
    engine: None, places: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Project]]:
    """Makes projects for one test; their stacks are destroyed after it, whatever became of it."""
    made: list[Project] = []

    def make(program: str, **options: object) -> Project:
        # The name of a test with parameters has brackets, which many a tool takes for a pattern.
        name = f"{request.path.stem}-{request.node.name}-{len(made)}"
        folder = places / name.replace("/", "-")
        made.append(Project(folder, program, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.destroy()


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """The command lines that were to be seen since the platform was begun."""
    watch = Commands()
    yield watch
    watch.stop()
