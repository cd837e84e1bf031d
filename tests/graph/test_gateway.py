"""Endpoints behind a Gateway of the cluster: what they register, on Pulumi's mocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pulumi
import pytest

import pulumi_mlops as mlops

GATEWAY = {"name": "public", "namespace": "gateways", "url": "https://*.models.example.com"}
ENDPOINT = "platform-live-endpoint"
ROUTE = f"{ENDPOINT}-route"
LIVE = {"model": "m", "requirements": ["scikit-learn"], "traffic": {"1": 90, "2": 10, "3": 0}}


def config(gateway: Any = GATEWAY, **more: Any) -> dict[str, str]:
    settings = {"namespace": "team", "registry": "registry.example.com/team", **more}
    if gateway:
        settings["gateway"] = gateway
    return {"mlops:target": "kubernetes", "mlops:kubernetes": json.dumps(settings)}


def platform(live: Any = LIVE) -> dict[str, Any]:
    made = mlops.MlopsPlatform("platform", {"endpoints": {"live": live}})
    return {"url": made.endpoints["live"].url}


@pytest.fixture
def graph(provision: Any, project: Path) -> Any:
    return provision(platform, config())


def test_the_route_has_the_public_hosts_of_the_endpoint(provision: Any, project: Path) -> None:
    live = {**LIVE, "hosts": ["prices.example.com"]}
    graph = provision(lambda: platform(live), config())
    hostnames = graph[ROUTE].inputs["spec"]["hostnames"]
    assert hostnames == ["live.models.example.com", "prices.example.com"]

    def without_gateway() -> None:
        with pytest.raises(pulumi.RunError, match="hosts is only for endpoints behind a Gateway"):
            platform(live)

    provision(without_gateway, config(gateway=None))


def test_the_route_is_an_object_of_the_gateway_api_and_no_pods(graph: Any) -> None:
    route = graph[ROUTE]
    assert route.type == "kubernetes:gateway.networking.k8s.io/v1:HTTPRoute"
    assert route.inputs["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route.inputs["kind"] == "HTTPRoute"
    assert route.inputs["metadata"]["namespace"] == "team"
    spec = route.inputs["spec"]
    assert spec["hostnames"] == ["live.models.example.com"]
    (rule,) = spec["rules"]
    weights = {each["name"]: each["weight"] for each in rule["backendRefs"]}
    assert weights == {f"{ENDPOINT}-v1": 90, f"{ENDPOINT}-v2": 10, f"{ENDPOINT}-v3": 0}
    services = graph.of("kubernetes:core/v1:Service").values()
    ports = {
        each.inputs["metadata"]["name"]: {port["port"] for port in each.inputs["spec"]["ports"]}
        for each in services
    }
    for each in rule["backendRefs"]:
        assert each["port"] in ports[each["name"]]
    made = {each.name for each in graph.all.values() if each.name.startswith(ROUTE)}
    assert made == {ROUTE, f"{ROUTE}-ready", *(f"{ROUTE}-v{each}-policy" for each in (1, 2, 3))}
    assert not [name for name in graph.all if "router" in name]


def test_the_traffic_changes_once_every_version_is_ready_and_may_be_called(graph: Any) -> None:
    route, wait = graph[ROUTE], graph[f"{ROUTE}-ready"]
    for version in ("v1", "v2", "v3"):
        assert graph[f"{ENDPOINT}-{version}-ready"].urn in route.depends_on
        policy = graph[f"{ROUTE}-{version}-policy"]
        assert policy.urn in route.depends_on
        # Before its pods are: a gateway that looks at them by itself finds them at once.
        assert graph[f"{ENDPOINT}-{version}-ready"].urn not in policy.depends_on
    assert route.urn in wait.depends_on
    assert wait.inputs["kind"] == "HTTPRoute"
    assert wait.inputs["name"] == ROUTE
    assert wait.inputs["uid"] == f"uid-{ROUTE}"
    assert "table" not in wait.inputs


def test_the_gateway_and_who_is_named_may_call_the_versions(provision: Any, project: Path) -> None:
    graph = provision(platform, config(allow_from=["10.1.0.0/16"]))
    policy = graph[f"{ROUTE}-v1-policy"].inputs
    kubernetes_validate.validate(_whole(policy), "1.34", strict=True)
    pods = graph[f"{ENDPOINT}-v1"].inputs["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pods.items()
    (rule,) = policy["spec"]["ingress"]
    gateways = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}}}
    assert rule["from"] == [gateways, {"ipBlock": {"cidr": "10.1.0.0/16"}}]
    (http,) = (port for port in _container(graph, "v1")["ports"] if port["name"] == "http")
    assert [port["port"] for port in rule["ports"]] == [http["containerPort"]]
    # Its own policy is the one that it has without a gateway: nothing is cut off on the way.
    without = provision(platform, config(gateway=None))
    name = f"{ENDPOINT}-v1-policy"
    assert graph[name].inputs == without[name].inputs
    assert graph[f"{ENDPOINT}-v1"].inputs == without[f"{ENDPOINT}-v1"].inputs


def _container(graph: Any, version: str) -> Any:
    return graph[f"{ENDPOINT}-{version}"].inputs["spec"]["template"]["spec"]["containers"][0]


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def test_the_url_is_the_gateways_and_follows_the_wait(provision: Any, project: Path) -> None:
    assert provision(platform, config()).result["url"].value == "https://live.models.example.com"
    plain = {**GATEWAY, "url": "http://*.local:8080"}
    assert provision(platform, config(plain)).result["url"].value == "http://live.local:8080"


def test_the_monitor_has_no_metrics_of_the_route(provision: Any, project: Path) -> None:
    def scraped(settings: Any) -> set[str]:
        files = provision(platform, settings)["platform-monitoring-server-files"]
        return set(files.inputs["stringData"].value)

    assert scraped(config(gateway=None)) - scraped(config()) == {f"{ROUTE}.json"}


def test_a_port_of_ones_own_is_refused(provision: Any, project: Path) -> None:
    with pytest.raises(pulumi.RunError) as refused:
        provision(lambda: platform({**LIVE, "port": 8080}), config())
    told = str(refused.value)
    assert told.startswith(f"{ROUTE}: port 8080 is not supported")
    assert told.endswith("remove `port`, or remove mlops:kubernetes.gateway")


def test_two_endpoints_of_one_name_are_refused(provision: Any, project: Path) -> None:
    """The Gateway could not tell one from the other."""

    def program() -> None:
        store = mlops.ArtifactStore("store")
        tracking = mlops.TrackingServer("tracking", {"artifact_store": store})
        for name in ("a", "b"):
            mlops.ServingEndpoint(name, {**LIVE, "tracking": tracking, "label": "live"})

    provision(program, config(gateway=None))
    with pytest.raises(pulumi.RunError, match="two components need a hostname called live"):
        provision(program, config())
