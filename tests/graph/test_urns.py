"""Children's names, types and parents: a contract, since state is found by them.

After a change that is meant, `MLOPS_WRITE_URNS=1 pytest tests/graph/test_urns.py` writes the lists
in `urns/` anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pulumi_mlops as mlops

URNS = Path(__file__).parent / "urns"


def artifact_store() -> None:
    mlops.ArtifactStore("store")


def external_artifact_store() -> None:
    mlops.ArtifactStore("store", {"endpoint_url": "https://s3.example.com"})


def tracking_server() -> None:
    mlops.TrackingServer("tracking", {"artifact_store": mlops.ArtifactStore("store")})


def tracking_server_on_postgresql() -> None:
    store = mlops.ArtifactStore("store")
    mlops.TrackingServer("tracking", {"artifact_store": store, "database": "postgresql"})


def tracking_server_with_users() -> None:
    store = mlops.ArtifactStore("store")
    mlops.TrackingServer("tracking", {"artifact_store": store, "auth": True})


def pipeline() -> None:
    tracking = mlops.TrackingServer("tracking", {"artifact_store": mlops.ArtifactStore("store")})
    runner = mlops.TrainingRunner("runner", {"tracking": tracking})
    mlops.Pipeline(
        "train", {"runner": runner, "source": "train", "schedule": {"cron": "0 3 * * *"}}
    )


def serving_endpoint() -> None:
    tracking = mlops.TrackingServer("tracking", {"artifact_store": mlops.ArtifactStore("store")})
    mlops.ServingEndpoint(
        "endpoint",
        {
            "model": "m",
            "tracking": tracking,
            "requirements": ["scikit-learn"],
            "traffic": {"3": 10, "2": 90},
        },
    )


def monitoring_stack() -> None:
    mlops.MonitoringStack("monitoring", {"scrape": {}})


def quality_monitor() -> None:
    store = mlops.ArtifactStore("store")
    mlops.QualityMonitor(
        "quality", {"artifact_store": store, "endpoints": {"live": {"task": "regression"}}}
    )


def quality_monitor_on_postgresql() -> None:
    store = mlops.ArtifactStore("store")
    mlops.QualityMonitor(
        "quality",
        {
            "artifact_store": store,
            "endpoints": {"live": {"task": "regression"}},
            "database": "postgresql",
        },
    )


def platform() -> None:
    mlops.MlopsPlatform(
        "platform",
        {
            "pipelines": {"train": {"source": "train", "schedule": {"cron": "0 3 * * *"}}},
            "endpoints": {
                "live": {
                    "model": "m",
                    "pipeline": "train",
                    "requirements": ["scikit-learn"],
                    "traffic": {"1": 100},
                }
            },
        },
    )


PROGRAMS: list[Callable[[], Any]] = [
    artifact_store, external_artifact_store, tracking_server, tracking_server_on_postgresql,
    tracking_server_with_users, pipeline, serving_endpoint, monitoring_stack, quality_monitor,
    quality_monitor_on_postgresql, platform,
]  # fmt: skip


KUBERNETES = {
    "mlops:target": "kubernetes",
    "mlops:kubernetes": '{"registry": "registry.example.com"}',
}
GATEWAY = {
    "mlops:target": "kubernetes",
    "mlops:kubernetes": '{"registry": "registry.example.com", "gateway": {"name": "public", '
    '"namespace": "gateways", "url": "https://*.models.example.com"}}',
}
CASES = [
    pytest.param(program, config, URNS / target / f"{program.__name__}.txt",
                 id=f"{program.__name__}-{target or 'local'}")
    for program in PROGRAMS
    for target, config in (("", {}), ("kubernetes", KUBERNETES))
] + [
    pytest.param(serving_endpoint, GATEWAY, URNS / "kubernetes" / "serving_endpoint_gateway.txt",
                 id="serving_endpoint-gateway")
]  # fmt: skip
SHARED = {
    "pulumi:providers:kubernetes", "kubernetes:core/v1:Namespace",
    "mlops:kubernetes:ClusterIdentity", "mlops:kubernetes:NamespaceOwner",
}  # fmt: skip


@pytest.mark.parametrize(("program", "config", "file"), CASES)
def test_urns_are_those_of_the_list(
    program: Any, config: Any, file: Path, provision: Any, project: Path
) -> None:
    urns = provision(program, config).urns()
    if os.environ.get("MLOPS_WRITE_URNS"):
        file.write_text("".join(f"{urn}\n" for urn in urns))
    assert urns == file.read_text().splitlines(), (
        "a name, type or parent has changed, by which users' data and servers are found: give the "
        "resource an alias of its old URN (pulumi.ResourceOptions(aliases=…)), else it is deleted "
        f"and made anew. Then write {file.name} with MLOPS_WRITE_URNS=1"
    )


@pytest.mark.parametrize(("program", "config", "file"), CASES)
def test_a_preview_that_knows_no_output_has_all_resources(
    program: Any, config: Any, file: Path, provision: Any, project: Path
) -> None:
    """So none is made inside an apply, and none depends on a value that is not there yet."""
    assert provision(program, config, preview=True).urns() == provision(program, config).urns()


@pytest.mark.parametrize(("program", "config", "file"), CASES)
def test_children_are_named_after_their_component(
    program: Any, config: Any, file: Path, provision: Any, project: Path
) -> None:
    graph = provision(program, config)
    for each in graph.all.values():
        if parent := graph.all.get(each.parent):
            assert each.name.startswith(f"{parent.name}-"), each.urn
        elif each.type not in SHARED and each.name not in ("deny-all", "namespace-key"):
            assert each.type.startswith("mlops:index:"), f"{each.urn} has no parent"
