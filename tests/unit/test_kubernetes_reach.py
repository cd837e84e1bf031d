"""Addresses within a cluster, reached from here, and the pods that they lead to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pulumi_mlops.targets.kubernetes.api.client import ClusterApi
from pulumi_mlops.targets.kubernetes.api.clusters import Clusters
from pulumi_mlops.targets.kubernetes.api.pods import is_ready, port_of_pod


@pytest.mark.parametrize(
    "url",
    [
        "", "http://127.0.0.1:5000/a?b", "https://s3.example.com", "http://user:pw@example.com:1/x",
        "http://tool.team.svc.example.com", "http://svc", "s3://bucket", "not a URL",
    ],
)  # fmt: skip
def test_other_addresses_are_left_alone(url: str) -> None:
    assert Clusters().reach(url) == url


@pytest.fixture
def tunnels(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    opened: list[tuple[str, str, int]] = []

    def tunnel(self: ClusterApi, service: str, port: int) -> str:
        opened.append((self.where.namespace, service, port))
        return f"127.0.0.1:{40000 + len(opened)}"

    monkeypatch.setattr(ClusterApi, "tunnel", tunnel)
    return opened


def test_addresses_of_the_cluster_are_tunnelled_once(tunnels: list[Any]) -> None:
    clusters = Clusters('{"namespace": "ignored"}')
    for url, reached in {
        "http://tool.team.svc:8080/a?b=c": "http://127.0.0.1:40001/a?b=c",
        "http://tool.team.svc.cluster.local:8080": "http://127.0.0.1:40001",
        "http://me:pw@tool.team.svc:8080/": "http://me:pw@127.0.0.1:40001/",
        "http://tool.team.svc/x": "http://127.0.0.1:40002/x",
        "https://tool.team.svc/x": "https://127.0.0.1:40003/x",
        "http://tool.other.svc:8080": "http://127.0.0.1:40004",
    }.items():
        assert clusters.reach(url) == reached
    assert tunnels == [
        ("team", "tool", 8080),
        ("team", "tool", 80),
        ("team", "tool", 443),
        ("other", "tool", 8080),
    ]


@pytest.mark.parametrize(("port", "number"), [(80, 8080), (81, 8081), (82, 82), (83, 83), (84, 84)])
def test_a_port_of_a_service_is_another_in_its_pods(port: int, number: int) -> None:
    targets = {80: {"targetPort": "http"}, 81: {"targetPort": 8081}, 82: {},
               83: {"targetPort": "gone"}}  # fmt: skip
    service = {"spec": {"ports": [{"port": port, **more} for port, more in targets.items()]}}
    pod = {"spec": {"containers": [{}, {"ports": [{"name": "http", "containerPort": 8080}]}]}}
    assert port_of_pod(service, port, pod) == number


@pytest.mark.parametrize(
    ("change", "ready"),
    [
        (lambda pod: None, True),
        (lambda pod: pod["metadata"].update(deletionTimestamp="now"), False),
        (lambda pod: pod["status"]["conditions"][0].update(status="False"), False),
        (lambda pod: pod["status"].clear(), False),
        (lambda pod: pod.pop("status"), False),
    ],
)
def test_which_pods_get_requests(change: Callable[[Any], object], ready: bool) -> None:
    pod = {"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    change(pod)
    assert is_ready(pod) is ready
