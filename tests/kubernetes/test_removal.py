"""Removal: the same again at once, and a stack whose namespace somebody deleted."""

from __future__ import annotations

import json
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


@pytest.mark.parametrize(
    "commands", [[("destroy",)], [("refresh",), ("destroy", "--refresh")]], ids=len
)
def test_a_stack_ends_after_its_namespace_is_gone(
    light: Callable[..., MlopsProject], commands: list[tuple[str, ...]]
) -> None:
    """What was in it counts as deleted: a bucket in its store, a version in its registry."""
    project = light("serve('store')")
    project.up()
    exported = json.loads(project.run("stack", "export"))
    resources = exported["deployment"]["resources"]
    (model,) = (each for each in resources if each["type"] == "mlops:kubernetes:Ready")
    inside = f"http://store.{project.namespace}.svc:8333"
    bucket = {"bucket": "artifacts", "endpointUrl": inside, "forceDestroy": True, "claim": "c"}
    version = {"model": "penguins", "version": "1", "trackingUri": inside}
    for kind, resource_id, inputs in (
        ("mlops:s3:Bucket", "artifacts", bucket),
        ("mlops:mlflow:ModelVersion", "penguins/1", version),
    ):
        parts = {"type": kind, "id": resource_id, "inputs": inputs, "outputs": inputs}
        urn = f"urn:pulumi:dev::standin::{kind}::inside"
        resources.append({**{key: model[key] for key in ("custom", "parent", "provider")},
                          "urn": urn, "dependencies": [model["urn"]], **parts})  # fmt: skip
    file = project.folder / "state.json"
    file.write_text(json.dumps(exported))
    project.run("stack", "import", "--file", str(file))
    project.kubectl("delete", "namespace", project.namespace, "--timeout=120s")
    for command in commands:
        project.run(*command, "--yes", "--skip-preview")
    left = json.loads(project.run("stack", "export"))["deployment"].get("resources", [])
    assert [each["type"] for each in left] in ([], ["pulumi:pulumi:Stack"])
