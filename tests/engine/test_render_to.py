"""A stack is on a cluster or rendered: no update turns one into the other."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

BENCH = Path(__file__).resolve().parents[2] / "tools" / "bench"

pytestmark = pytest.mark.engine


@pytest.fixture
def tool() -> Iterator[Any]:
    """Projects whose plugins touch neither a cluster nor a registry."""
    sys.path.insert(0, str(BENCH))
    yield importlib.import_module("infrastructure_project")
    sys.path.remove(str(BENCH))


def configure(project: Any, config: dict[str, Any], render_to: str | None) -> None:
    told = {**config["mlops:kubernetes"], **({"render_to": render_to} if render_to else {})}
    text = yaml.safe_dump({"config": {**config, "mlops:kubernetes": told}})
    project.write("Pulumi.bench.yaml", text)


@pytest.mark.parametrize(
    ("before", "now", "why"),
    [
        (None, "manifests", "render_to cannot be set for a stack that is on a cluster"),
        ("manifests", None, "render_to cannot be removed from a stack that renders"),
    ],
)
def test_what_a_stack_has_is_not_deleted_by_a_setting(
    tool: Any, tmp_path: Path, before: str | None, now: str | None, why: str
) -> None:
    config = tool.config_of("cluster")
    project = tool.Project(tmp_path / "project", config, tool.stubbed_plugins(tmp_path / "plugins"))
    configure(project, config, before)
    project.up()
    had = project.state()["deployment"]["resources"]
    configure(project, config, now)
    with pytest.raises(RuntimeError, match=why):
        project.first_preview()
    with pytest.raises(RuntimeError, match=why):
        project.up()
    assert {each["urn"] for each in project.state()["deployment"]["resources"]} >= {
        each["urn"] for each in had
    }
    # As it says: first destroy. Kept data is protected from that.
    project.pulumi("destroy", "--yes", "--skip-preview", "--exclude-protected")
    configure(project, config, before)
    project.up()
