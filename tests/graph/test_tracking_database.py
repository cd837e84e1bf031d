"""A tracking server on a PostgreSQL that exists already, on Pulumi's mocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest

import pulumi_mlops as mlops

KUBERNETES = {
    "mlops:target": "kubernetes",
    "mlops:kubernetes": '{"registry": "registry.example.com"}',
}
TARGETS = pytest.mark.parametrize("config", [{}, KUBERNETES], ids=["local", "kubernetes"])
URL = "postgresql://mlflow:s3cr3t@db.example.com:5432/mlflow"


def server(**args: Any) -> Callable[[], Any]:
    def program() -> None:
        store = mlops.ArtifactStore("store", {"endpoint_url": "https://s3.example.com"})
        mlops.TrackingServer("tracking", {"artifact_store": store, **args})

    return program


@TARGETS
@pytest.mark.parametrize("given", [str, pulumi.Output.secret], ids=["text", "secret"])
def test_nothing_is_provisioned_and_its_tables_are_brought_up_to_date(
    config: Any, given: Any, provision: Any, project: Path
) -> None:
    def program() -> None:
        server(database_url=given(URL))()

    graph = provision(program, config)
    assert not [name for name in (each.name for each in graph.all.values()) if "database" in name]
    ready = "-ready" if config else ""
    assert graph[f"tracking-migration{ready}"].urn in graph["tracking-server"].depends_on
    for each in graph.all.values():
        # In a Secret, or a secret input, and nowhere else.
        text = json.dumps(each.inputs, default=lambda value: "hidden" if value else "")
        assert "s3cr3t" not in text, each.urn


def test_its_pods_may_call_it(provision: Any, project: Path) -> None:
    graph = provision(server(database_url=URL), KUBERNETES)
    for name in ("tracking-server", "tracking-migration"):
        assert {} in graph[f"{name}-policy"].inputs["spec"]["egress"]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (
            {"database_url": "mysql://me:s3cr3t@db/x"},
            "tracking.database_url: must have the form `postgresql:",
        ),
        (
            {"database_url": "postgresql://db/x"},
            "tracking.database_url: must have the form `postgresql:",
        ),
        (
            {"database_url": URL, "database": "sqlite"},
            "tracking.database: selects a database to provision: remove it, or remove database_url",
        ),
    ],
)
def test_what_cannot_be(args: Any, told: str, provision: Any, project: Path) -> None:
    with pytest.raises(pulumi.RunError) as refusal:
        provision(server(**args))
    assert told in str(refusal.value)
    assert "s3cr3t" not in str(refusal.value)
