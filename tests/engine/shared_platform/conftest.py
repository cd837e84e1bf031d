"""The platform that the tests of this folder share. One worker runs all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from platform_project import DEV, PLATFORM, Commands, Project, Stack, client


@pytest.fixture(scope="session")
def checkout(engine: None, places: Path) -> Iterator[Project]:
    """A checkout in a place as deep and as oddly named as any: long, with spaces, not ASCII."""
    deep = places / "Übung macht den Meister" / ("deep " * 20 + "folder") / ("x" * 80) / "platform"
    assert len(str(deep)) > 200
    project = Project(deep, PLATFORM, pipelines=["pipelines/penguins_mlflow"])
    yield project
    project.destroy()


@pytest.fixture(scope="session")
def platform(commands: Commands, checkout: Project) -> Stack:
    """The dev platform, up, with version 1 of its model live."""
    stack = checkout.stack("dev", DEV)
    stack.apply(DEV)
    return stack


@pytest.fixture(scope="session")
def s3(platform: Stack) -> Any:
    """A client of the platform's artifact store."""
    return client(platform.outputs())
