"""What the Kubernetes target refuses in the preview, by name, and with a fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pytest

import pulumi_mlops as mlops
from pulumi_mlops import artifacts, monitoring, platform, serving, tracking, training
from pulumi_mlops.targets.port import (
    AnalysisSpec,
    Backend,
    EnvironmentSpec,
    JobSpec,
    RouteSpec,
    ServiceSpec,
    resolve,
)


def config(**kubernetes: Any) -> dict[str, str]:
    return {
        "mlops:target": "kubernetes",
        "mlops:kubernetes": json.dumps({"registry": "registry.example.com", **kubernetes}),
    }


def environment(target: Any) -> Any:
    return target.environment("tool-environment", EnvironmentSpec(requirements=[]), _OPTS)


def service(**spec: Any) -> None:
    target = resolve()
    given = {"command": ["serve"], "environment": environment(target), **spec}
    target.service("tool", ServiceSpec(**given), _OPTS)


def job(**spec: Any) -> None:
    target = resolve()
    given = {"command": ["run"], "environment": environment(target), **spec}
    target.job("tool", JobSpec(**given), _OPTS)


_OPTS = pulumi.ResourceOptions()


@pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])
@pytest.mark.parametrize("ask", [service, job])
def test_a_secret_is_no_plain_variable(
    ask: Any, preview: bool, provision: Any, project: Path
) -> None:
    with pytest.raises(
        pulumi.RunError,
        match=r"^tool: the environment variable KEY is a secret: pass it in `secrets`$",
    ):
        provision(
            lambda: ask(env={"A": "1", "KEY": pulumi.Output.secret("hush")}), config(),
            preview=preview,
        )  # fmt: skip


@pytest.mark.parametrize("ask", [service, job])
def test_a_secret_is_no_word_of_a_command(ask: Any, provision: Any, project: Path) -> None:
    with pytest.raises(
        pulumi.RunError, match="tool: an argument of its command is a secret"
    ) as refusal:
        provision(lambda: ask(command=["run", pulumi.Output.secret("hush")]), config())
    assert "hush" not in str(refusal.value)


@pytest.mark.parametrize("ask", [service, job])
def test_an_open_output_is_a_variable_and_a_word(ask: Any, provision: Any, project: Path) -> None:
    def program() -> None:
        ask(
            command=["run", pulumi.Output.from_input("x")], env={"A": pulumi.Output.from_input("1")}
        )

    assert '"x"' in json.dumps([each.inputs for each in provision(program, config()).all.values()])


def test_first_requests_are_not_analyzed(provision: Any, project: Path) -> None:
    def program(seconds: float) -> None:
        target = resolve()
        spec = ServiceSpec(command=["serve"], environment=environment(target), routed=True)
        backend = Backend(
            service=target.service("tool", spec, _OPTS), weight=100, check_path="/ready"
        )
        analysis = AnalysisSpec(seconds=seconds)
        route = RouteSpec(endpoint="tool", backends={"v1": backend}, analysis=analysis)
        target.route("tool-route", route, _OPTS)

    with pytest.raises(pulumi.RunError) as refusal:
        provision(lambda: program(10), config(), preview=True)
    assert str(refusal.value).startswith("tool-route: analysis is not supported by this target")
    assert "remove it, and watch the error rate" in str(refusal.value)
    provision(lambda: program(0), config(), preview=True)


def test_data_is_for_one_pod(provision: Any, project: Path) -> None:
    def program() -> None:
        data = resolve().volume("tool-data", True, _OPTS)
        service(data=data, replicas=2)

    with pytest.raises(pulumi.RunError, match="tool: data of 2 replicas is not supported"):
        provision(program, config())


def test_kept_data_does_not_go_with_its_namespace(provision: Any, project: Path) -> None:
    def program(**store: Any) -> Any:
        return lambda: mlops.ArtifactStore("store", store)

    going = config(delete_namespace=True)
    with pytest.raises(pulumi.RunError) as refusal:
        provision(program(), going)
    for named in ("store-data", "`retain`", "mlops:kubernetes.delete_namespace", "false"):
        assert named in str(refusal.value)
    graph = provision(program(retain=False), going)
    assert not graph["namespace"].retain_on_delete
    # Somebody else's namespace is not ours to delete.
    other = provision(program(), config(delete_namespace=True, create_namespace=False))
    assert other.of("kubernetes:core/v1:Namespace") == {}


def test_an_image_has_to_come_from_somewhere(provision: Any, project: Path) -> None:
    def program() -> None:
        mlops.ArtifactStore("store")

    with pytest.raises(pulumi.RunError) as refusal:
        provision(program, config(registry=None))
    assert str(refusal.value).startswith("store-environment: no image is configured")
    for named in ("mlops:kubernetes.registry", "mlops:kubernetes.images.store"):
        assert named in str(refusal.value)
    given = config(registry=None, images={"store": "elsewhere.example.com/seaweedfs:1"})
    spec = provision(program, given)["store-server"].inputs["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == "elsewhere.example.com/seaweedfs:1"


def test_two_objects_of_one_name_are_refused(provision: Any, project: Path) -> None:
    """Pulumi tells them apart by type and parent, the cluster does not: one would take the other's
    place."""

    def program() -> None:
        store = mlops.ArtifactStore("same", {"endpoint_url": "https://s3.example.com"})
        mlops.TrackingServer("same", {"artifact_store": store})
        mlops.MonitoringStack("same", {"scrape": {}})

    with pytest.raises(
        pulumi.RunError,
        match=r"two components need a Service called same-server in namespace mlops: rename one",
    ):
        provision(program, config())


def test_names_that_the_cluster_would_refuse_are_made_to_fit(provision: Any, project: Path) -> None:
    def program() -> None:
        mlops.ArtifactStore("My_Store")
        mlops.ArtifactStore("my-store")
        mlops.ArtifactStore("a-store-whose-name-is-" + 5 * "very-" + "long-indeed")

    graph = provision(program, config())
    called = [each.inputs["metadata"]["name"] for each in
              graph.of("kubernetes:core/v1:Service").values()]  # fmt: skip
    assert len(set(called)) == 3
    sets = graph.of("kubernetes:apps/v1:StatefulSet").values()
    for each in sets:
        # The label controller-revision-hash has eleven characters more, and at most 63.
        assert len(each.inputs["metadata"]["name"]) <= 52
        assert each.inputs["spec"]["serviceName"] in called


def test_one_component_may_be_on_the_cluster_alone(provision: Any, project: Path) -> None:
    def program() -> None:
        mlops.ArtifactStore("here")
        mlops.ArtifactStore("there", {"target": "kubernetes"})

    graph = provision(program, {"mlops:kubernetes": config()["mlops:kubernetes"]})
    assert list(graph.of("kubernetes:apps/v1:StatefulSet")) == ["there-server"]
    assert list(graph.of("mlops:local:Process")) == ["here-server"]


@pytest.mark.parametrize(
    "module", [artifacts, monitoring, platform, serving, tracking, training],
    ids=lambda module: module.__name__.rpartition(".")[2],
)  # fmt: skip
def test_no_component_knows_where_it_is(module: Any) -> None:
    text = Path(module.__file__).read_text().lower()
    for word in ("kubernetes", "kubectl", "if target", "mlops:local", "target =="):
        assert word not in text


def test_settings_are_checked_before_anything_is_made(provision: Any, project: Path) -> None:
    with pytest.raises(pulumi.RunError, match=r"^mlops:kubernetes\.namespace: "):
        provision(lambda: mlops.ArtifactStore("store"), config(namespace="kube-system"))
