"""What all tests share."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

sys.path.insert(0, str(Path(__file__).parent))
import flaky_list

# One for all: outputs that parametrize a test belong to it too.
_LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(_LOOP)


@pytest.fixture(autouse=True)
def _event_loop() -> None:
    """Pulumi's outputs take the thread's loop, which an `asyncio.run` of another test unsets."""
    asyncio.set_event_loop(_LOOP)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(flaky_list)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what remains of stacks after a worker was interrupted: it has ten seconds to end them."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        return
    sys.path.insert(0, str(Path(__file__).parent / "engine"))
    from platform_project import end_everything_in  # noqa: PLC0415 - a second of imports

    end_everything_in(config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]


class Schedule(LoadFileScheduling):
    """Gives a worker whole files, or all of `shared_platform`, in the order of `_rank`."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file.rpartition("/")[0] if "/shared_platform/" in file else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Schedule:
    config.option.loadscopereorder = False
    return Schedule(config, log)


def _rank(item: pytest.Item) -> int:
    """The longest first, so that the workers end at about the same time."""
    if "/shared_platform/" in item.nodeid:
        return 0
    return 1 if item.get_closest_marker("engine") else 2


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that need a cluster or many environments, unless `-m` names them."""
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)
    named = [
        mark for mark in ("kubernetes", "mlflow_versions") if mark not in config.option.markexpr
    ]
    left_out = [item for item in items if any(map(item.get_closest_marker, named))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
