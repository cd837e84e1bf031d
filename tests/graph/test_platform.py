"""The platform from one configuration, and what its stack exports."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest

import pulumi_mlops as mlops

CONFIG: dict[str, Any] = {
    "pipelines": {"train": {"source": "train"}},
    "endpoints": {
        "live": {
            "model": "penguins",
            "pipeline": "train",
            "requirements": "train/requirements.txt",
            "traffic": {"1": 90, "2": 10},
        }
    },
}


def platform(**changed: Any) -> mlops.MlopsPlatform:
    return mlops.MlopsPlatform("platform", {**CONFIG, **changed})


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    monkeypatch.setattr(pulumi, "export", found.__setitem__)
    yield found


def test_defaults_are_a_platform_without_pipelines(provision: Any) -> None:
    graph = provision(lambda: mlops.MlopsPlatform("platform"))
    components = [
        each for each in graph.all if each.split("::")[2].split("$")[-1].startswith("mlops:index:")
    ]
    assert sorted(urn.rsplit(":", 1)[-1] for urn in components) == [
        "platform", "platform-artifacts", "platform-monitoring", "platform-tracking",
        "platform-training",
    ]  # fmt: skip


def test_parts_are_wired_together(provision: Any, project: Path) -> None:
    graph = provision(platform)
    tracking_url = graph["platform-train-pipeline-job"].inputs["env"]["MLFLOW_TRACKING_URI"]
    server = graph["platform-live-endpoint-v1"].inputs["env"]
    assert server["MLFLOW_TRACKING_URI"] == tracking_url
    assert server["MLOPS_PREDICTION_LOG"] == "s3://platform-artifacts/predictions"
    assert server["MLOPS_ENDPOINT"] == "live"
    model = graph["platform-live-endpoint-v1-model"]
    assert graph["platform-train-pipeline-job"].urn in model.depends_on
    monitor = graph["platform-monitoring-server"]
    for scraped in ("platform-artifacts-server", "platform-live-endpoint-v2"):
        assert scraped in str(monitor.inputs)


def test_no_monitor_when_it_is_not_wanted(provision: Any, project: Path) -> None:
    graph = provision(lambda: platform(monitoring={"enabled": False}))
    assert graph.of("mlops:index:MonitoringStack") == {}
    assert graph.of("mlops:index:ServingEndpoint")


def test_settings_reach_their_parts(provision: Any, project: Path) -> None:
    def program() -> None:
        platform(
            artifacts={"bucket": "models", "retain": False},
            tracking={"database": "postgresql", "port": 5000},
            training={"timeout": 60},
            monitoring={"port": 9999, "interval": 2},
        )

    graph = provision(program)
    assert graph["platform-artifacts-bucket"].inputs["bucket"] == "models"
    assert not graph["platform-artifacts-bucket"].retain_on_delete
    assert graph["platform-tracking-database-server"]
    assert graph["platform-tracking-server"].inputs["ports"] == {"http": 5000}
    assert graph["platform-train-pipeline-job"].inputs["timeoutSeconds"] == 60
    assert graph["platform-monitoring-server"].inputs["ports"] == {"http": 9999}


QUALITY = {"task": "classification", "label": "species"}


def monitored(retain: bool = True, **quality: Any) -> mlops.MlopsPlatform:
    live = {**CONFIG["endpoints"]["live"], "quality": {**QUALITY, **quality}}
    service = {"port": 7000, "interval": 5, "retain": retain}
    return platform(endpoints={"live": live}, quality=service)


def test_no_quality_service_without_a_declaration(provision: Any, project: Path) -> None:
    graph = provision(lambda: platform(quality={"port": 7000}))
    assert graph.of("mlops:index:QualityMonitor") == {}
    assert not [urn for urn in graph.urns() if "quality" in urn]


def test_a_declaration_provisions_the_quality_service(
    provision: Any, project: Path, exports: dict[str, Any]
) -> None:
    def program() -> dict[str, Any]:
        monitored(slices=["island"]).export()
        return exports

    graph = provision(program)
    server = graph["platform-quality-server"].inputs
    assert server["ports"] == {"http": 7000}
    assert server["env"]["MLOPS_ARTIFACT_STORE"] == "s3://platform-artifacts"
    database = "sqlite:////volumes/platform-quality-database/database.sqlite"
    assert database in str(server["env"]["MLOPS_DATABASE_URL"])
    assert json.loads(server["files"]["live.json"]) == {
        "name": "live", "task": "classification", "label": "species", "slices": ["island"],
    }  # fmt: skip
    assert "platform-quality-server" in str(graph["platform-monitoring-server"].inputs)
    url = graph.result["quality_url"].value
    assert graph.result["client_env"].value["MLOPS_QUALITY_URL"] == url


ON_KUBERNETES = {
    "mlops:target": "kubernetes",
    "mlops:kubernetes": '{"registry": "registry.example.com"}',
}


def test_the_quality_service_on_kubernetes(provision: Any, project: Path) -> None:
    graph = provision(monitored, ON_KUBERNETES)
    server = graph["platform-quality-server"]
    assert server.type == "kubernetes:apps/v1:StatefulSet"
    policy = graph["platform-quality-server-policy"].inputs["spec"]
    assert "platform-artifacts-server" in json.dumps(policy["egress"])
    monitor = json.dumps(graph["platform-monitoring-server-files"].inputs, default=str)
    assert "platform-quality-server" in monitor


@pytest.mark.parametrize("retain", [True, False])
def test_retained_quality_results_are_protected_like_runs(
    provision: Any, project: Path, retain: bool
) -> None:
    """With `retain: false` the last `quality` can be removed; see docs/quality.md."""
    graph = provision(lambda: monitored(retain=retain), ON_KUBERNETES)
    claim = graph["platform-quality-database"]
    assert claim.type == "kubernetes:core/v1:PersistentVolumeClaim"
    assert (claim.protect, claim.retain_on_delete) == (retain, retain)
    assert graph["platform-tracking-database"].protect
    assert not [
        each for each in graph.all.values() if "quality" in each.urn and each.protect and not retain
    ]


def test_exports_say_where_everything_is_and_keep_secrets(
    provision: Any, project: Path, exports: dict[str, Any]
) -> None:
    def program() -> dict[str, Any]:
        platform().export()
        return exports

    graph = provision(program)
    seen = graph.result
    assert set(seen) >= {
        "tracking_url", "s3_endpoint_url", "artifact_store", "endpoints", "dashboard_url",
        "client_env", "client_env_file", "logs_dir",
    }  # fmt: skip
    assert {name for name, each in seen.items() if each.secret} == {"client_env"}
    assert seen["client_env"].value == {
        "MLFLOW_TRACKING_URI": seen["tracking_url"].value,
        "AWS_ENDPOINT_URL": seen["s3_endpoint_url"].value,
        "MLFLOW_S3_ENDPOINT_URL": seen["s3_endpoint_url"].value,
        "AWS_ACCESS_KEY_ID": "mlops",
        "AWS_SECRET_ACCESS_KEY": "generated-platform-artifacts-secret-key",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    assert seen["endpoints"].value["live"] == {
        "url": "http://route/platform-live-endpoint-route",
        "model": "penguins",
        "versions": ["1", "2"],
        "traffic": {"1": 90, "2": 10},
    }
    assert seen["logs_dir"].value == str(project / ".mlops" / "dev" / "logs")


def test_the_clients_file_is_a_secret_and_can_be_sourced(provision: Any, project: Path) -> None:
    def program() -> None:
        platform(artifacts={
            "endpoint_url": "https://s3.example.com", "access_key_id": "me",
            "secret_access_key": "it's; $(hush)",
        })  # fmt: skip

    content = provision(program)["platform-client-env"].inputs["content"]
    assert type(content).__name__ == "Secret"
    key = shlex.quote("it's; $(hush)")
    assert f"export AWS_SECRET_ACCESS_KEY={key}\n" in content.value


def test_a_configuration_that_cannot_be_registers_nothing(provision: Any, project: Path) -> None:
    refused = []

    def program() -> None:
        for changed in ({"trakcing": {}}, {"pipelines": {"train": {"source": "nowhere"}}}):
            with pytest.raises(pulumi.RunError) as refusal:
                platform(**changed)
            refused.append(str(refusal.value))

    assert provision(program).all == {}
    assert refused == [
        "platform.trakcing: there is no such input: did you mean `tracking`?",
        f"platform.pipelines.train.source: {project}/nowhere is not a folder: set the path of a "
        "folder, relative to Pulumi.yaml",
    ]
