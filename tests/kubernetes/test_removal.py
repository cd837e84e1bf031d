"""What was removed a moment ago can be made again, though its pods have not ended yet."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mlops_project import MlopsProject

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

# Its pod takes its time to end, as one does that answers what it was asked before.
PROGRAM = """
script = (
    "trap '/busybox sleep 20; exit' TERM; /busybox httpd -f -h /tmp -p 8080 & "
    "while :; do /busybox sleep 1; done"
)
serve("slow", "/busybox", "sh", "-c", script, stop_seconds=30)
"""


def test_the_same_again_at_once(light: Callable[..., MlopsProject]) -> None:
    project = light(PROGRAM)
    project.up()
    (before,) = project.get("pods")["items"]
    project.write("")
    project.up()
    (ending,) = project.get("pods")["items"]
    assert ending["metadata"]["uid"] == before["metadata"]["uid"]
    assert "deletionTimestamp" in ending["metadata"]
    project.write(PROGRAM)
    project.up()
    project.kubectl("rollout", "status", "deployment/slow", "--timeout", "60s")
    project.run("refresh", "--preview-only", "--expect-no-changes")
