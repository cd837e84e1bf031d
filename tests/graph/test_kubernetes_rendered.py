"""The same platform rendered into a folder: what it registers, on Pulumi's mocks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pulumi
import pytest

import pulumi_mlops as mlops
from pulumi_mlops.targets.port import EnvironmentSpec, ServiceSpec, resolve

from .conftest import Graph
from .test_kubernetes_objects import opened

PLATFORM: dict[str, Any] = {
    "tracking": {"database": "postgresql", "auth": True},
    "pipelines": {"train": {"source": "train", "schedule": {"cron": "0 3 * * *"}}},
    "endpoints": {
        "live": {
            "model": "m", "pipeline": "train", "requirements": ["scikit-learn"], "replicas": 2,
            "traffic": {"1": 90, "2": 10},
        }
    },
}  # fmt: skip
BUCKET, JOB, SERVER = (
    "platform-artifacts-bucket", "platform-train-pipeline-job", "platform-tracking-server",
)  # fmt: skip


def config(**kubernetes: Any) -> dict[str, str]:
    settings = {
        "namespace": "team", "registry": "registry.example.com/team", "render_to": "clusters/ml",
        **kubernetes,
    }  # fmt: skip
    return {"mlops:target": "kubernetes", "mlops:kubernetes": json.dumps(settings)}


def platform(**parts: Any) -> dict[str, Any]:
    made = mlops.MlopsPlatform("platform", {**PLATFORM, **parts})
    return {
        "tracking": made.tracking.url, "uri": made.artifacts.uri,
        "outputs": made.pipelines["train"].outputs, "try_it": made.endpoints["live"].try_it,
    }  # fmt: skip


@pytest.fixture
def graph(provision: Any, project: Path) -> Graph:
    found: Graph = provision(platform, config())
    return found


def pod(graph: Graph, name: str) -> Any:
    return opened(graph[name].inputs["spec"]["template"]["spec"])


def first(graph: Graph, name: str) -> list[Any]:
    return list(pod(graph, name).get("initContainers", []))


def test_the_provider_writes_a_folder_and_knows_no_cluster(provision: Any, project: Path) -> None:
    given = config(context="here", kubeconfig="~/.kube/other")
    graph = provision(platform, given)
    (provider,) = graph.of("pulumi:providers:kubernetes").values()
    assert provider.inputs["renderYamlToDirectory"] == "../clusters/ml"
    assert (Path.cwd() / "../clusters/ml").resolve() == project.resolve() / "clusters/ml"
    assert not {"context", "cluster", "clusterIdentifier"} & provider.inputs.keys()
    # It refuses another value of render_to, and is asked first.
    (identity,) = graph.of("mlops:kubernetes:ClusterIdentity").values()
    assert identity.inputs["rendered"] is True
    assert identity.urn in provider.depends_on
    # Else the SDK would take KUBECONFIG, which the plugin refuses together with a folder.
    assert provider.inputs["kubeconfig"] == ""


def test_a_folder_elsewhere_is_possible(provision: Any, project: Path, tmp_path: Path) -> None:
    given = config(render_to=str(tmp_path / "repository"))
    (provider,) = provision(platform, given).of("pulumi:providers:kubernetes").values()
    found = os.path.normpath(Path.cwd() / provider.inputs["renderYamlToDirectory"])
    assert found == str(tmp_path / "repository")


def test_nothing_asks_a_cluster(graph: Graph) -> None:
    ours = {each.type for each in graph.all.values() if each.type.startswith("mlops:")}
    assert {kind for kind in ours if not kind.startswith("mlops:index:")} == {
        "mlops:kubernetes:ClusterIdentity", "mlops:kubernetes:StoredSecret", "mlops:local:File",
    }  # fmt: skip
    assert graph["cluster-identity"].inputs["rendered"] is True
    for each in graph.all.values():
        annotations = str(each.inputs.get("metadata", {}).get("annotations", {}))
        assert "pulumi.com" not in annotations, each.urn


def test_no_secret_is_in_a_manifest(graph: Graph) -> None:
    assert not graph.of("kubernetes:core/v1:Secret")
    for each in graph.all.values():
        if each.type.startswith("kubernetes:"):
            text = json.dumps(each.inputs, default=repr)
            assert "generated-" not in text, each.urn
            assert "Secret(" not in text, each.urn


def test_secrets_are_in_the_state_under_the_names_that_pods_use(graph: Graph) -> None:
    stored = graph.of("mlops:kubernetes:StoredSecret")
    assert set(stored) == {
        "platform-artifacts-server-secrets", "platform-artifacts-server-files",
        "platform-artifacts-bucket-secrets", "platform-tracking-database-server-secrets",
        "platform-tracking-migration-secrets",
        "platform-tracking-server-secrets", "platform-tracking-server-files",
        "platform-train-pipeline-job-secrets", "platform-live-endpoint-v1-secrets",
        "platform-live-endpoint-v2-secrets", 
        "platform-monitoring-server-files",
    }  # fmt: skip
    for name, each in stored.items():
        assert each.inputs["name"] == name
        assert each.inputs["namespace"] == "team"
        assert each.inputs["labels"]["app.kubernetes.io/managed-by"] == "pulumi-mlops"
        for value in each.inputs["stringData"].values():
            assert type(value).__name__ == "Secret", name


def test_other_credentials_are_other_pods(provision: Any, project: Path) -> None:
    def content(secret: str) -> Any:
        artifacts = {
            "endpoint_url": "https://s3.example.com", "access_key_id": "me",
            "secret_access_key": secret,
        }  # fmt: skip
        graph = provision(lambda: platform(artifacts=artifacts), config())
        return graph[SERVER].inputs["spec"]["template"]["metadata"]["annotations"]

    assert content("hush") == content("hush") != content("hush!")


def test_what_is_known_is_told(provision: Any, project: Path) -> None:
    for preview in (True, False):
        seen = provision(platform, config(), preview=preview).result
        assert seen["outputs"].value == {}
        if not preview:
            assert seen["tracking"].value == f"http://{SERVER}.team.svc:8080"
            assert seen["uri"].value == "s3://platform-artifacts"
            assert seen["try_it"].value == ""


def test_a_preview_has_the_same_resources(provision: Any, project: Path) -> None:
    before, after = (provision(platform, config(), preview=told) for told in (True, False))
    assert before.urns() == after.urns()


def test_the_bucket_is_made_by_a_job(graph: Graph) -> None:
    job = graph[BUCKET]
    assert job.type == "kubernetes:batch/v1:Job"
    (main,) = pod(graph, BUCKET)["containers"]
    *_, module, text = main["command"]
    assert module == "pulumi_mlops.runtime.s3"
    settings = json.loads(text)
    assert settings["bucket"] == "platform-artifacts"
    assert settings["endpointUrl"] == "http://platform-artifacts-server.team.svc:8080"
    # As the plugin's own resource would be called: the data of another stack's store is known.
    assert settings["urn"] == (
        "urn:pulumi:dev::project::mlops:index:MlopsPlatform$mlops:index:ArtifactStore$"
        f"mlops:s3:Bucket::{BUCKET}"
    )
    assert main["envFrom"] == [{"secretRef": {"name": f"{BUCKET}-secrets"}}]
    stored = opened(graph[f"{BUCKET}-secrets"].inputs["stringData"])
    assert set(stored) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_every_program_waits_for_what_it_calls(graph: Graph) -> None:
    def places(name: str) -> list[str]:
        (wait,) = (each for each in first(graph, name) if each["name"] == "wait")
        assert wait["command"][:2] == ["python", "-c"]
        # Its own image: a node has no other to pull.
        assert wait["image"] == pod(graph, name)["containers"][0]["image"]
        return list(wait["command"][3:])

    store = "platform-artifacts-server.team.svc:8080"
    database = "platform-tracking-database-server.team.svc:8080"
    tracking = f"{SERVER}.team.svc:8080"
    assert places(BUCKET) == [store]
    assert places(SERVER) == [store, database]
    assert places(JOB) == [tracking, store]
    assert places("platform-live-endpoint-v1") == [tracking, store]
    assert not first(graph, "platform-artifacts-server")
    schedule = graph["platform-train-pipeline-schedule"].inputs["spec"]["jobTemplate"]["spec"]
    assert schedule["template"]["spec"]["initContainers"]


def test_services_wait_for_the_bucket_in_their_store(graph: Graph) -> None:
    (image,) = {each["image"] for each in pod(graph, BUCKET)["containers"]}
    for name in (SERVER, "platform-live-endpoint-v2"):
        wait = first(graph, name)[1]
        assert (wait["name"], wait["image"]) == (f"wait-for-{BUCKET}", image)
        assert "--wait" in wait["command"]
        assert json.loads(wait["command"][-1])["bucket"] == "platform-artifacts"
        assert wait["envFrom"] == [{"secretRef": {"name": f"{BUCKET}-secrets"}}]
        assert "cpu" in wait["resources"]["requests"]
        assert "memory" in wait["resources"]["limits"]
    names = [each["name"] for each in first(graph, "platform-tracking-database-server")]
    assert names == []


def test_an_existing_store_gets_its_bucket_too(provision: Any, project: Path) -> None:
    store = {"endpoint_url": "https://s3.example.com"}
    graph = provision(lambda: platform(artifacts=store), config())
    settings = json.loads(pod(graph, BUCKET)["containers"][0]["command"][-1])
    assert settings["endpointUrl"] == "https://s3.example.com"
    assert f"{BUCKET}-secrets" not in graph.of("mlops:kubernetes:StoredSecret")
    waits = [each for each in first(graph, SERVER) if each["name"] == f"wait-for-{BUCKET}"]
    assert len(waits) == 1
    assert "envFrom" not in waits[0]


def test_a_program_that_calls_another_store_does_not_wait(provision: Any, project: Path) -> None:
    def program() -> None:
        platform()
        target, opts = resolve(), pulumi.ResourceOptions()
        environment = target.environment("tool", EnvironmentSpec(requirements=[]), opts)
        spec = ServiceSpec(command=["serve"], environment=environment, calls_outside=True)
        target.service("tool", spec, opts)

    assert first(provision(program, config()), "tool") == []


def test_whatever_changes_in_a_job_is_another_job(provision: Any, project: Path) -> None:
    """A Job of the same name cannot become another one, and nobody is there who replaces it."""

    def name(resource: str = JOB, **parts: Any) -> str:
        job = provision(lambda: platform(**parts), config())[resource]
        return str(job.inputs["metadata"]["name"])

    assert name() == name()
    assert name() != name(training={"resources": {"memory": "3Gi"}})
    assert name(BUCKET) != name(BUCKET, artifacts={"versioning": True})
    # The bucket's own settings are no reason to train again.
    assert name() == name(artifacts={"versioning": True})


def test_what_is_kept_is_kept_by_the_tool_that_applies_it(provision: Any, project: Path) -> None:
    def marked(**parts: Any) -> set[str]:
        graph = provision(lambda: platform(**parts), config(delete_namespace=bool(parts)))
        return {
            each.name
            for each in graph.all.values()
            if each.inputs.get("metadata", {}).get("annotations")
            == {
                "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
                "kustomize.toolkit.fluxcd.io/prune": "disabled",
            }
        }

    data = {"platform-artifacts-data", "platform-tracking-database"}
    assert marked() == {"namespace", *data}
    tracking = {**PLATFORM["tracking"], "retain": False}
    assert marked(artifacts={"retain": False}, tracking=tracking) == set()


@pytest.mark.parametrize(
    ("artifacts", "told"),
    [
        ({"bucket": "192.168.0.1"}, "platform-artifacts-bucket: bucket: .*form of an IP address"),
        ({"tags": {"aws:x": "1"}}, "platform-artifacts-bucket: tags: key 'aws:x'"),
    ],
)
def test_a_bucket_that_cannot_be_is_refused_in_the_preview(
    artifacts: Any, told: str, provision: Any, project: Path
) -> None:
    with pytest.raises(pulumi.RunError, match=told):
        provision(lambda: platform(artifacts=artifacts), config(), preview=True)


def test_no_list_is_empty(graph: Graph) -> None:
    """The API server leaves it out, and Argo CD would find a difference for ever."""

    def lists(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [found for item in value.values() for found in lists(item)]
        inner = [found for item in value for found in lists(item)] if type(value) is list else []
        return [value, *inner] if type(value) is list else inner

    for each in graph.all.values():
        if each.type.startswith("kubernetes:"):
            assert all(lists(each.inputs)), each.urn


def test_rendering_needs_the_requirements_of_models(provision: Any, project: Path) -> None:
    endpoints = {"live": {"model": "m", "traffic": {"1": 100}}}
    with pytest.raises(pulumi.RunError, match=r"live-endpoint\.requirements: is required"):
        provision(lambda: platform(endpoints=endpoints), config())
