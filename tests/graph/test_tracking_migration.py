"""The tables of a shared database are brought up to date by one job, on Pulumi's mocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pulumi_mlops as mlops
from pulumi_mlops import tracking

KUBERNETES = {
    "mlops:target": "kubernetes",
    "mlops:kubernetes": '{"registry": "registry.example.com"}',
}
TARGETS = pytest.mark.parametrize("config", [{}, KUBERNETES], ids=["local", "kubernetes"])
JOB = "tracking-migration"


def server(**args: Any) -> Callable[[], Any]:
    def program() -> None:
        store = mlops.ArtifactStore("store", {"endpoint_url": "https://s3.example.com"})
        mlops.TrackingServer("tracking", {"artifact_store": store, **args})

    return program


def command_of(graph: Any) -> list[str]:
    inputs = graph[JOB].inputs
    if "spec" not in inputs:
        return list(inputs["command"])
    (container,) = inputs["spec"]["template"]["spec"]["containers"]
    return list(container["command"])


@TARGETS
def test_the_server_waits_for_the_job_and_the_job_for_the_database(
    config: Any, provision: Any, project: Path
) -> None:
    graph = provision(server(database="postgresql"), config)
    ready = "-ready" if config else ""
    assert graph[f"{JOB}{ready}"].urn in graph["tracking-server"].depends_on
    assert graph[f"tracking-database-server{ready}"].urn in graph[JOB].depends_on
    assert command_of(graph)[-1] == "pulumi_mlops.runtime.tracking_schema"


@TARGETS
def test_a_file_is_its_servers_own(config: Any, provision: Any, project: Path) -> None:
    graph = provision(server(), config)
    assert not [each for each in graph.all.values() if each.name.startswith(JOB)]


@TARGETS
def test_the_tables_of_users_are_its_work_too(config: Any, provision: Any, project: Path) -> None:
    graph = provision(server(database="postgresql", auth=True), config)
    assert command_of(graph)[-1] == "--users"


@TARGETS
def test_another_mlflow_is_another_run_and_other_workers_are_none(
    config: Any, provision: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**args: Any) -> Any:
        inputs = provision(server(database="postgresql", **args), config)[JOB].inputs
        # What makes it run: another Job of the cluster has another name.
        return inputs["metadata"]["name"] if config else (inputs["command"], inputs["version"])

    first = run()
    assert first == run(workers=4, resources={"cpu": 2})
    monkeypatch.setattr(tracking, "_MLFLOW", "3.99.0")
    assert first != run()


@TARGETS
def test_its_password_is_told_to_nobody(config: Any, provision: Any, project: Path) -> None:
    graph = provision(server(database="postgresql"), config)
    inputs = graph[f"{JOB}-secrets" if config else JOB].inputs
    uri = (inputs["stringData"].value if config else inputs["env"])["MLFLOW_BACKEND_STORE_URI"]
    uri = uri if config else uri.value
    assert "generated-tracking-database-password" in uri
    assert "generated-" not in str(command_of(graph))
