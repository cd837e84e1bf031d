"""What all tests share."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what brings up an engine or a cluster, unless `-m` speaks of it."""
    if "kubernetes" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("kubernetes")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
