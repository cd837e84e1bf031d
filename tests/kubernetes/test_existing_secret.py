"""A Secret that somebody else keeps: pods get its value, and the next one after it was changed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from mlops_project import MlopsProject

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

PROGRAM = """
from pulumi_mlops.spec import FromSecret
from pulumi_mlops.targets.port import text_of

reference = FromSecret(secret_key_ref={"name": "db", "key": "KEY"})
serve("user", secrets={"TOKEN": text_of(here, reference)})
"""
FIRST, SECOND = "f1rst-s3cret", "s3cond-s3cret"


def keep(project: MlopsProject, key: str, value: str) -> None:
    change = json.dumps({"stringData": {key: value}})
    project.kubectl("patch", "secret", "db", "--patch", change)


def given(project: MlopsProject) -> str:
    """What the running pod has."""
    project.kubectl("rollout", "status", "deployment/user", "--timeout", "60s")
    told: str = project.kubectl(
        "exec", "deployment/user", "--", "/busybox", "sh", "-c", "echo $TOKEN"
    )
    return told.strip()


def hidden(project: MlopsProject, told: str) -> None:
    state = project.run("stack", "export")
    for value in (FIRST, SECOND):
        for text in (value, base64.b64encode(value.encode()).decode()):
            assert text not in told
            assert text not in state


def test_its_value_is_used_and_followed(light: Callable[..., MlopsProject]) -> None:
    project = light(PROGRAM.replace("KEY", "url"))
    told = project.up(fails=True)
    assert f"there is no Secret db in namespace {project.namespace}: create it, or correct" in told
    project.kubectl("create", "secret", "generic", "db", f"--from-literal=password={FIRST}")
    told = project.up(fails=True)
    assert "has no key url: correct secret_key_ref.key. Its keys: password" in told
    keep(project, "url", FIRST)
    hidden(project, project.up())
    assert given(project) == FIRST
    project.preview("--expect-no-changes")

    keep(project, "url", SECOND)
    shown = project.preview("--diff")
    assert "mlops:kubernetes:ExistingSecret" in shown
    hidden(project, shown)
    hidden(project, project.up())
    assert given(project) == SECOND
    project.preview("--expect-no-changes")

    # It is not deleted with the stack.
    project.write("")
    project.up()
    secret: dict[str, Any] = project.get("secret/db")
    assert base64.b64decode(secret["data"]["url"]).decode() == SECOND
