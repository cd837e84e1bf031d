"""A stack stays on its cluster, whatever leads to it: no update replaces what it has there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlops_project import MlopsProject

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]
Light = Callable[..., MlopsProject]

PROGRAM = """
serve("tool", data=here.volume("tool-data", False, opts))
"""


def kubeconfig(file: Path, **cluster: str) -> str:
    """The kubeconfig of the tests with more in its cluster entry; its path."""
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    config["clusters"][0]["cluster"].update(cluster)
    file.write_text(json.dumps(config))
    return str(file)


def uids(stack: MlopsProject) -> dict[str, Any]:
    found = stack.get("pvc,service,deployment,statefulset,networkpolicy,configmap")["items"]
    return {f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["uid"] for each in found}


def test_another_kubeconfig_for_the_same_cluster_changes_nothing(light: Light) -> None:
    stack = light(PROGRAM)
    stack.up()
    before = uids(stack)
    other = kubeconfig(stack.folder / "other", **{"tls-server-name": "kubernetes"})
    stack.run("preview", "--expect-no-changes", KUBECONFIG=other)
    stack.run("up", "--yes", "--expect-no-changes", KUBECONFIG=other)
    assert uids(stack) == before
