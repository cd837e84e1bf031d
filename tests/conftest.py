"""What all tests share."""

from __future__ import annotations

import asyncio

import pytest

# One for all: outputs that parametrize a test belong to it too.
_LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(_LOOP)


@pytest.fixture(autouse=True)
def _event_loop() -> None:
    """Pulumi's outputs take the thread's loop, which an `asyncio.run` of another test unsets."""
    asyncio.set_event_loop(_LOOP)
