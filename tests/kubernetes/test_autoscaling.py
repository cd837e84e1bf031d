"""A busy service on a real cluster: the autoscaler decides, and no update takes that back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from pulumi_project import Project

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

LEAST, MOST = 2, 4
# Each takes some tenth of a core, which is many times what it asks for.
BUSY = """\
/busybox httpd -p $PORT -h /tmp
while :; do
    i=0
    while [ $i -lt 20000 ]; do i=$((i + 1)); done
    /busybox sleep 0.2
done
"""
PROGRAM = f"""
from pulumi_mlops.targets.port import EnvironmentSpec, Resources, ServiceSpec, resolve

target, most = resolve(), os.environ["MOST"]
environment = target.environment("busy-environment", EnvironmentSpec(requirements=[]), Options())
target.service("busy", ServiceSpec(
    command=["/busybox", "sh", "-c", {BUSY!r}],
    environment=environment,
    env={{"RELEASE": os.environ["RELEASE"]}},
    resources=Resources(cpu=0.02, memory=64 << 20),
    replicas={LEAST},
    max_replicas=int(most) if most else None,
), Options())
"""


@pytest.fixture
def stack(project: Callable[[str], Project], busybox: str) -> Project:
    """A fixed number of pods, up."""
    stack = project(PROGRAM)
    settings = {
        "namespace": stack.namespace, "delete_namespace": True, "images": {"busy": busybox},
    }  # fmt: skip
    stack.run("config", "set", "mlops:target", "kubernetes")
    stack.run("config", "set", "mlops:kubernetes", json.dumps(settings))
    stack.env |= {"MOST": "", "RELEASE": "1"}
    stack.up()
    assert deployment(stack)["spec"]["replicas"] == LEAST
    return stack


def deployment(stack: Project) -> Any:
    return json.loads(stack.kubectl("get", "deployment", "busy", "--output", "json"))


def pods(stack: Project) -> set[str]:
    return set(stack.kubectl("get", "pods", "--output", "name").split())


def scaled(stack: Project, wanted: int) -> None:
    """Return once so many are ready."""
    end = time.monotonic() + 300
    while deployment(stack)["status"].get("readyReplicas") != wanted:
        assert time.monotonic() < end, stack.kubectl("describe", "hpa,deployment")
        time.sleep(1)


def test_the_autoscaler_decides_and_no_update_takes_that_back(stack: Project) -> None:
    before = pods(stack)
    stack.env["MOST"] = str(MOST)
    stack.up()
    scaled(stack, MOST)
    assert before < pods(stack)  # those that were there went on

    stack.up("--expect-no-changes")
    stack.run("preview", "--refresh", "--expect-no-changes")
    stack.run("refresh", "--preview-only", "--expect-no-changes")
    stack.run("refresh", "--yes", "--skip-preview")
    stack.up("--expect-no-changes")
    assert deployment(stack)["spec"]["replicas"] == MOST

    stack.env["RELEASE"] = "2"
    stack.up()
    found = deployment(stack)
    assert found["spec"]["replicas"] == found["status"]["updatedReplicas"] == MOST
    assert found["status"]["availableReplicas"] >= LEAST
    budget = json.loads(stack.kubectl("get", "pdb", "busy", "--output", "json"))
    assert budget["spec"]["maxUnavailable"] == 1
