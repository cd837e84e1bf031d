"""Data that is kept: what endangers it fails in the preview, and `make down` leaves it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlops_project import MlopsProject

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import stack as tool

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

PROGRAM = """
script = "[ -e /data/first ] || /busybox date +%s%N > /data/first; exec /busybox httpd -f -p 8080"
data = here.volume("tool-data", RETAIN, opts)
url = serve("tool", "/busybox", "sh", "-c", script, data=data).url
pulumi.export("tracking_url", url)
"""


def written(stack: MlopsProject) -> str:
    return stack.kubectl("exec", "tool-0", "--", "/busybox", "cat", "/data/first")


def test_kept_data_survives_whatever_is_done_to_its_stack(
    light: Callable[..., MlopsProject], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    stack = light(PROGRAM.replace("RETAIN", "True"), delete_namespace=False)
    stack.up()
    first, claim = written(stack), stack.get("pvc", "tool-data")["metadata"]["uid"]

    # What would delete or replace it. test_cluster_identity.py has the inputs that would.
    before = stack.objects()
    told = stack.run("destroy", "--yes", fails=True)
    assert "cannot be deleted\n    because it is protected" in told
    assert stack.objects() == before, "refused before the first deletion"
    stack.write("")
    assert "cannot be deleted\n    because it is protected" in stack.preview(fails=True)
    stack.write(PROGRAM.replace("RETAIN", "True"))
    stack.settings["volume_size"] = "2Mi"
    changes = json.loads(stack.preview("--json").partition("\nerror")[0])["changeSummary"]
    assert changes["update"] == 1
    assert "replace" not in changes
    stack.settings["volume_size"] = "1Mi"
    stack.preview("--expect-no-changes")

    # `make down`, twice, and `make up`.
    monkeypatch.setattr(tool, "PROJECT", stack.folder)
    (stack.folder / "stacks").mkdir()
    (stack.folder / "stacks" / "Pulumi.dev.yaml").symlink_to("../Pulumi.dev.yaml")
    for _ in range(2):
        assert tool.down("dev", [], stack.env) == 0
        told = capsys.readouterr().err
        assert "dev is down. Kept" in told
        assert f"PersistentVolumeClaim tool-data in namespace {stack.namespace}" in told
    stack.kubectl("wait", "--for=delete", "statefulset/tool", "--timeout", "60s")
    assert set(stack.objects()) == {
        "ConfigMap/kube-root-ca.crt", "ConfigMap/mlops-owner", "PersistentVolumeClaim/tool-data",
    }  # fmt: skip
    tool.status("dev", [], stack.env)
    assert "dev is not up; `make up STACK=dev` provisions it" in capsys.readouterr().out
    # The namespace is not free as long as the data is in it.
    other = light("", namespace=stack.namespace)
    assert "belongs to another stack of the same name" in other.preview(fails=True)
    stack.up()
    assert written(stack) == first
    assert stack.get("pvc", "tool-data")["metadata"]["uid"] == claim
    stack.preview("--expect-no-changes")

    # For good.
    stack.write(PROGRAM.replace("RETAIN", "False"))
    stack.settings["delete_namespace"] = True
    stack.up()
    assert tool.down("dev", [], stack.env) == 0
    assert "dev is down. Kept: stacks/Pulumi.dev.yaml" in capsys.readouterr().err
    assert json.loads(stack.run("stack", "ls", "--json")) == []
    stack.run("stack", "init", "dev")  # for the fixture
