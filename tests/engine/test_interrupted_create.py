"""An update that is stopped while it creates a resource converges with the next update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import light
import pytest
from faults import is_plugin, kill_engine_and_plugin, whole
from platform_project import Running, Stack, belonging_to, until

pytestmark = pytest.mark.engine


@pytest.fixture
def fresh(project: Callable[..., Any]) -> Stack:
    """A stack of its own, not up yet."""
    return light.make(project)


def kill_engine(running: Running) -> None:
    running.process.kill()


@pytest.mark.parametrize(
    ("stop", "moments"),
    [
        (kill_engine_and_plugin, light.MOMENTS),
        # These let the plugin clean up, which takes time only where a program runs already.
        (kill_engine, light.SLOW_MOMENTS),
        (Running.interrupt, light.SLOW_MOMENTS),
    ],
    ids=["kill engine and plugin", "kill engine", "Ctrl-C"],
)
def test_an_update_that_is_stopped_in_the_middle_of_a_create_converges(
    fresh: Stack, stop: Callable[[Running], None], moments: Mapping[str, str]
) -> None:
    stack = fresh
    stopped = []
    for name, moment in moments.items():
        # A small thing may be there already: the update before was not stopped in time.
        if name in stack.resources():
            continue
        running = stack.start("up", "--yes", "--skip-preview")
        assert running.reached(moment), running.output()
        stop(running)
        running.wait()
        stopped.append(name)
        until(lambda: not [each for each in belonging_to(stack.project.folder) if is_plugin(each)])
        stack.end_language_hosts()
        if stack.locked():
            stack.cancel()
    assert {"environment", "job", "store", "route"} <= set(stopped)
    stack.up()
    outputs = whole(stack)
    # The engine keeps the pending operation in the state until it is removed.
    stack.pulumi("refresh", "--yes", "--skip-preview", "--clear-pending-creates")
    assert not stack.pending()
    assert whole(stack) == outputs
    stack.destroy()
    assert not stack.leftovers()
