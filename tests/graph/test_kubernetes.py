"""The same platform on Kubernetes: what it registers, on Pulumi's mocks."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime import rpc

import pulumi_mlops as mlops

CONFIG = {
    "mlops:target": "kubernetes",
    "mlops:kubernetes": json.dumps({"namespace": "team", "registry": "registry.example.com/team"}),
}
PLATFORM: dict[str, Any] = {
    "tracking": {"database": "postgresql", "auth": True},
    "pipelines": {"train": {"source": "train", "schedule": {"cron": "0 3 * * *"}}},
    "endpoints": {
        "live": {
            "model": "m",
            "pipeline": "train",
            "requirements": ["scikit-learn"],
            "replicas": 2,
            "traffic": {"1": 90, "2": 10},
        }
    },
}
WORKLOADS = {"kubernetes:apps/v1:Deployment", "kubernetes:apps/v1:StatefulSet",
             "kubernetes:batch/v1:Job"}  # fmt: skip
ENDPOINT = "platform-live-endpoint"


def platform() -> mlops.MlopsPlatform:
    return mlops.MlopsPlatform("platform", PLATFORM)


@pytest.fixture
def graph(provision: Any, project: Path) -> Any:
    return provision(platform, CONFIG)


def of_the_cluster(graph: Any) -> list[Any]:
    return [each for each in graph.all.values() if each.type.startswith("kubernetes:")]


def secrets(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is marked as a secret, and where."""
    if type(value).__name__ == "Secret":
        yield from ((path, text) for text in texts(value.value))
        return
    parts = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else parts:
        yield from secrets(item, (*path, str(key)))


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts(item)]
    return [value]


def above(graph: Any, urn: str) -> set[str]:
    """All that `urn` waits for, directly or not."""
    found: set[str] = set()
    new = {urn}
    while new:
        new = {each for one in new for each in graph.all[one].depends_on} - found
        found |= new
    return found


def test_one_provider_and_one_namespace_serve_all(graph: Any) -> None:
    (provider,) = graph.of("pulumi:providers:kubernetes").values()
    (namespace,) = graph.of("kubernetes:core/v1:Namespace").values()
    assert provider.inputs["namespace"] == "team"
    assert namespace.inputs["metadata"]["name"] == "team"
    assert namespace.inputs["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == (
        "restricted"
    )
    assert namespace.retain_on_delete
    owner = graph["namespace-owner"]
    for each in of_the_cluster(graph):
        assert each.provider.startswith(provider.urn), each.urn
        if each is not namespace:
            assert each.inputs["metadata"]["namespace"] == "team"
            assert {owner.urn, namespace.urn} <= each.depends_on, each.urn


@pytest.mark.parametrize(("kubeconfig", "path"), [
    (None, ""), ("kube/config", "../kube/config"), ("/etc/kube", "/etc/kube"),
])  # fmt: skip
def test_how_the_cluster_is_reached_is_no_part_of_the_state(
    provision: Any, project: Path, monkeypatch: pytest.MonkeyPatch, kubeconfig: Any, path: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/somewhere/else")
    settings = {**json.loads(CONFIG["mlops:kubernetes"]), "kubeconfig": kubeconfig}
    config = {**CONFIG, "mlops:kubernetes": json.dumps(settings)}
    graph = provision(lambda: mlops.ArtifactStore("store"), config)
    (provider,) = graph.of("pulumi:providers:kubernetes").values()
    assert provider.inputs["clusterIdentifier"] == "uid-of-kube-system"
    assert provider.inputs["kubeconfig"] == path
    assert graph["cluster-identity"].inputs == {"namespace": "team", "rendered": False}
    # A plan that replaces the provider is seen by the owner, which is before everything else.
    assert provider.urn in graph["namespace-owner"].depends_on


def test_no_replacement_creates_before_it_deletes(graph: Any) -> None:
    """It would adopt the object of the same name, and delete that."""
    for each in of_the_cluster(graph):
        assert each.delete_before_replace, each.urn


def test_a_namespace_is_taken_before_anything_is_in_it(provision: Any, project: Path) -> None:
    graph = provision(platform, CONFIG)
    owner, key = graph["namespace-owner"], graph["namespace-key"]
    assert owner.inputs["namespace"] == "team"
    assert owner.inputs["key"] == "generated-namespace-key", "what everybody may read is no secret"
    assert key.urn in owner.depends_on
    # A stack that is refused has no namespace in its state, which it would delete in the end.
    assert owner.urn in graph["namespace"].depends_on
    there = {"namespace": "team", "create_namespace": False, "registry": "registry.example.com"}
    graph = provision(platform, {**CONFIG, "mlops:kubernetes": json.dumps(there)})
    assert graph["namespace-owner"].inputs["createNamespace"] is False
    for each in of_the_cluster(graph):
        assert graph["namespace-owner"].urn in each.depends_on, each.urn


def test_secrets_are_in_secret_objects_and_nowhere_else_of_the_cluster(graph: Any) -> None:
    values = set()
    for each in graph.all.values():
        for path, value in secrets(each.inputs):
            assert path, f"all of {each.urn} is a secret: no diff would show anything"
            if each.type.startswith("kubernetes:"):
                assert each.type == "kubernetes:core/v1:Secret", f"{each.urn} {path}"
                assert path[0] == "stringData"
                values.add(value)
    assert "generated-platform-artifacts-secret-key" in values
    assert "generated-platform-tracking-admin-password" in str(values)
    for each in of_the_cluster(graph):
        if each.type != "kubernetes:core/v1:Secret":
            text = json.dumps(each.inputs, default=str)
            assert "generated-" not in text, each.urn
            assert not [value for value in values if value in text], each.urn


def test_every_content_of_a_secret_object_is_marked(graph: Any) -> None:
    made = graph.of("kubernetes:core/v1:Secret").values()
    assert made
    for each in made:
        assert set(each.inputs) == {"apiVersion", "kind", "metadata", "stringData"}
        assert type(each.inputs["stringData"]).__name__ == "Secret", each.urn


def test_other_credentials_are_other_pods_and_tell_nothing(provision: Any, project: Path) -> None:
    def content(secret: str) -> Any:
        def program() -> None:
            mlops.MlopsPlatform("platform", {**PLATFORM, "artifacts": {
                "endpoint_url": "https://s3.example.com", "access_key_id": "me",
                "secret_access_key": secret,
            }})  # fmt: skip

        spec = provision(program, CONFIG)[f"{ENDPOINT}-v1"].inputs["spec"]
        return spec["template"]["metadata"]["annotations"]["mlops/content"]

    assert content("hush") == content("hush") != content("hush!")
    assert isinstance(content("hush"), str)
    assert "hush" not in content("hush")


def test_a_wait_follows_its_workload_and_all_others_follow_the_wait(graph: Any) -> None:
    waits = graph.of("mlops:kubernetes:Ready")
    workloads = {each.urn: each for each in of_the_cluster(graph) if each.type in WORKLOADS}
    assert {name.removesuffix("-ready") for name in waits} == {
        each.name for each in workloads.values()
    }
    for each in graph.all.values():
        for workload in workloads.values():
            if workload.urn in each.depends_on:
                assert f"{workload.name}-ready" == each.name or (
                    graph[f"{workload.name}-ready"].urn in each.depends_on
                ), f"{each.urn} does not wait until {workload.name} is ready"
    for name, wait in waits.items():
        native = workloads[next(urn for urn in wait.depends_on if urn in workloads)]
        assert native.name == name.removesuffix("-ready")
        assert wait.inputs["kind"] == native.type.rpartition(":")[2]
        assert wait.inputs["name"] == native.inputs["metadata"]["name"]
        assert wait.inputs["namespace"] == "team"
        assert wait.inputs["generation"] == 1
        assert wait.inputs["uid"] == f"uid-{native.name}", "one that was replaced begins at 1 again"


def test_pulumi_kubernetes_waits_for_nothing_that_we_wait_for(graph: Any) -> None:
    """A Service would wait for its own pods, which come after it."""
    kinds = WORKLOADS | {"kubernetes:core/v1:Service", "kubernetes:core/v1:PersistentVolumeClaim"}
    for each in of_the_cluster(graph):
        annotations = each.inputs["metadata"].get("annotations", {})
        assert (annotations.get("pulumi.com/skipAwait") == "true") == (each.type in kinds), each.urn


def test_a_service_is_there_before_its_pods(graph: Any) -> None:
    for name, exposed in graph.of("kubernetes:core/v1:Service").items():
        workload = name.removesuffix("-service").removesuffix("-pods")
        assert f"{workload}-ready" not in {urn.rpartition("::")[2] for urn in exposed.depends_on}
        if not workload.endswith("-route"):
            assert exposed.urn in graph[workload].depends_on


def test_a_model_is_fetched_by_an_init_container_that_alone_has_the_password(graph: Any) -> None:
    name = f"{ENDPOINT}-v1"
    pod = graph[name].inputs["spec"]["template"]["spec"]
    (server,), (fetch,) = pod["containers"], pod["initContainers"]
    assert fetch["command"] == ["python", "-m", "pulumi_mlops.runtime.model_files"]
    assert fetch["image"] == server["image"]
    of = {entry["name"]: entry for entry in fetch["env"]}
    copy = of["MLOPS_MODEL_COPY"]["value"]
    assert copy.startswith(f"s3://platform-artifacts/served-models/project/dev/{ENDPOINT}/v1-")
    assert of["MLOPS_MODEL_NAME"]["value"] == "m"
    password = of["MLFLOW_TRACKING_PASSWORD"]["valueFrom"]["secretKeyRef"]
    assert password == {"name": f"{name}-secrets", "key": "fetch.MLFLOW_TRACKING_PASSWORD"}
    variables = {entry["name"]: entry.get("value") for entry in server["env"]}
    assert not {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"} & set(variables)
    assert variables["MLOPS_MODEL_DIR"] == "$(FETCHED_DIR)/model"
    assert variables["AWS_ACCESS_KEY_ID"] == "mlops-predictions"
    assert "fetch." not in json.dumps(server)
    mounts = {each["name"]: each for each in server["volumeMounts"]}
    assert mounts["fetched"]["readOnly"]
    assert {"name": "fetched", "emptyDir": {}} in pod["volumes"]

    # The copy is deleted after the pods that read it.
    (kept,) = (each for each in graph.of("mlops:s3:ObjectFolder").values() if name in each.name)
    assert kept.inputs["uri"] == copy
    assert kept.urn in graph[name].depends_on
    assert graph["platform-artifacts-bucket"].urn in above(graph, kept.urn)


def test_the_name_of_a_model_is_encoded_in_paths_only(provision: Any, project: Path) -> None:
    name, encoded = "price list #1 模型", "price%20list%20%231%20%E6%A8%A1%E5%9E%8B"
    live = {**PLATFORM["endpoints"]["live"], "model": name}
    config = {**PLATFORM, "endpoints": {"live": live}}
    graph = provision(lambda: mlops.MlopsPlatform("platform", config), CONFIG)
    path = f"/v2/models/{encoded}/versions/1/ready"
    (container,) = graph[f"{ENDPOINT}-v1"].inputs["spec"]["template"]["spec"]["containers"]
    assert {"name": "MLOPS_MODEL_NAME", "value": name} in container["env"]
    assert container["readinessProbe"]["httpGet"]["path"] == path
    entry = json.loads(graph[f"{ENDPOINT}-route-table"].inputs["data"]["v1"])
    assert entry["check_path"] == path
    for each in of_the_cluster(graph):
        assert name not in json.dumps(each.inputs.get("metadata", {}), ensure_ascii=False)


def test_the_traffic_changes_once_every_version_is_ready(graph: Any) -> None:
    table, route = graph[f"{ENDPOINT}-route-table"], graph[f"{ENDPOINT}-route"]
    for version in ("v1", "v2"):
        assert graph[f"{ENDPOINT}-{version}-ready"].urn in table.depends_on
        assert graph[f"{ENDPOINT}-{version}-model"].urn in above(graph, table.urn)
    assert {graph[f"{ENDPOINT}-route-{part}"].urn for part in ("account", "binding", "table")} <= (
        set(route.depends_on)
    )
    wanted = {key: json.loads(entry) for key, entry in table.inputs["data"].items()}
    assert {key: entry["weight"] for key, entry in wanted.items()} == {"v1": 90, "v2": 10}
    wait = graph[f"{ENDPOINT}-route-ready"]
    assert wait.inputs["table"] == wanted
    assert table.urn in wait.depends_on


def test_what_is_started_waits_for_what_it_needs(graph: Any) -> None:
    order = [
        "platform-tracking-database-server-ready", "platform-tracking-server",
        "platform-tracking-server-ready", "platform-train-pipeline-job",
        "platform-train-pipeline-job-ready", f"{ENDPOINT}-v1-model", f"{ENDPOINT}-v1",
        f"{ENDPOINT}-v1-ready", f"{ENDPOINT}-route-table",
    ]  # fmt: skip
    for before, after in itertools.pairwise(order):
        assert graph[before].urn in above(graph, graph[after].urn), f"{after} before {before}"
    job = graph["platform-train-pipeline-job"]
    assert graph["platform-artifacts-bucket"].urn in above(graph, job.urn)
    schedule = graph["platform-train-pipeline-schedule"]
    assert graph["platform-train-pipeline-job-ready"].urn in schedule.depends_on


def test_only_a_changed_job_is_another_job(provision: Any, project: Path) -> None:
    def name() -> str:
        job = provision(platform, CONFIG)["platform-train-pipeline-job"].inputs
        return str(job["metadata"]["name"])

    first = name()
    assert first == name()
    (project / "train/run.py").write_text("print('trained otherwise')\n")
    assert first != name()
    assert first[:-8] == name()[:-8]


def test_addresses_are_those_of_services(provision: Any, project: Path) -> None:
    def program() -> dict[str, Any]:
        made = platform()
        return {"tracking": made.tracking.url, "route": made.endpoints["live"].url}

    for preview in (True, False):
        seen = provision(program, CONFIG, preview=preview).result
        assert not seen["tracking"].secret
        if not preview:
            assert seen["tracking"].value == "http://platform-tracking-server.team.svc:8080"
            assert seen["route"].value == f"http://{ENDPOINT}-route.team.svc:8080"


def test_data_is_kept_unless_told_otherwise(provision: Any, project: Path) -> None:
    claims = "kubernetes:core/v1:PersistentVolumeClaim"
    graph = provision(platform, CONFIG)
    kept = graph.of(claims)
    assert set(kept) == {"platform-artifacts-data", "platform-tracking-database"}
    assert all(claim.retain_on_delete for claim in kept.values())
    assert {each.urn for each in graph.all.values() if each.protect} == {
        claim.urn for claim in kept.values()
    }

    def program() -> None:
        parts = {"artifacts": {"retain": False}, "tracking": {"retain": False}}
        mlops.MlopsPlatform("platform", {**PLATFORM, **parts})

    found = provision(program, CONFIG)
    assert not any(claim.retain_on_delete for claim in found.of(claims).values())
    assert not any(claim.protect for claim in found.of(claims).values())


def test_an_endpoints_port_is_that_of_its_service(provision: Any, project: Path) -> None:
    """One that a proxy's pod uses for itself, and one that needs rights there, are no exception."""
    for port in (80, 8081, 8082):

        def program(port: int = port) -> dict[str, Any]:
            live = {**PLATFORM["endpoints"]["live"], "port": port}
            made = mlops.MlopsPlatform("platform", {**PLATFORM, "endpoints": {"live": live}})
            return {"url": made.endpoints["live"].url}

        graph = provision(program, CONFIG)
        (exposed,) = graph[f"{ENDPOINT}-route-service"].inputs["spec"]["ports"]
        assert (exposed["port"], exposed["targetPort"]) == (port, "http")
        pod = graph[f"{ENDPOINT}-route"].inputs["spec"]["template"]["spec"]["containers"][0]
        numbers = [each["containerPort"] for each in pod["ports"]]
        assert len(numbers) == len(set(numbers))
        assert min(numbers) > 1023
        assert graph.result["url"].value == f"http://{ENDPOINT}-route.team.svc:{port}"


def test_an_image_of_stored_requirements_is_known_once_they_are(
    provision: Any, project: Path
) -> None:
    def program() -> None:
        endpoints = {"live": {"model": "m", "traffic": {"1": 50, "2": 50}}}
        mlops.MlopsPlatform("platform", {**PLATFORM, "endpoints": endpoints})  # type: ignore[typeddict-item]

    graph = provision(program, CONFIG)
    references = set()
    for version in ("1", "2"):
        reference = graph[f"{ENDPOINT}-v{version}-environment"].inputs["reference"]
        pod = graph[f"{ENDPOINT}-v{version}"].inputs["spec"]["template"]["spec"]
        assert pod["containers"][0]["image"] == reference
        references.add(reference)
    assert len(references) == 2
    (context,) = (project / ".mlops/dev/images" / f"{ENDPOINT}-v1").glob("*/requirements.txt")
    assert context.read_text().startswith("mlflow==2.12.2\nscikit-learn==1.4.1\n")
    unknown = provision(program, CONFIG, preview=True)[f"{ENDPOINT}-v1-environment"].inputs
    assert unknown["reference"] == rpc.UNKNOWN
