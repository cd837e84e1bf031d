"""The agent of a route's pod, which reconciles a real HAProxy with a table and ready pods."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import httpx
import pytest

from pulumi_mlops.runtime.router import agent as agent_module
from pulumi_mlops.runtime.router.agent import Agent, ProxyUnresponsive
from pulumi_mlops.runtime.router.files import ROUTE_FILE
from pulumi_mlops.runtime.router.haproxy_socket import RuntimeSocket

from .router_fixtures import ENDPOINT, Proxy, proxy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="HAProxy is there for Linux")


@pytest.fixture
def route() -> Iterator[Proxy]:
    with proxy() as made:
        yield made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent does not wait until all servers pass their check."""
    monkeypatch.setattr(agent_module, "_CHECK_SECONDS", 0)


def accepted(route: Proxy) -> dict[str, int] | None:
    found = route.agent.state()["table"]
    return found and {version: entry["weight"] for version, entry in found.items()}


def test_no_table_is_accepted_before_table_and_pods_are_known(route: Proxy) -> None:
    route.agent.follow()
    route.table(v1=100)
    route.agent.follow()
    assert not route.agent.ready
    assert accepted(route) is None
    route.slices(v1=[1])
    route.settle()
    assert route.agent.ready
    assert accepted(route) == {"v1": 100}
    assert route.get().text == "127.0.1.1"


def test_state_is_the_table_of_the_configmap(route: Proxy) -> None:
    route.table(v1=100)
    route.slices(v1=[1])
    route.settle()
    entry = {"service": "service-v1", "port": route.port, "weight": 100, "check_path": "/ready"}
    assert json.loads(json.dumps(route.agent.state())) == {"table": {"v1": entry}}


def test_first_table_waits_for_all_weighted_versions(route: Proxy, capsys: Any) -> None:
    route.table(v1=90, v2=10, v3=0)
    route.slices(v1=[1])
    route.agent.follow()
    assert not route.agent.ready
    assert capsys.readouterr().out == (
        "no pod of v2 is ready: the last accepted table stays in effect\n"
    )
    route.slices(v1=[1], v2=[2])
    route.settle()
    assert accepted(route) == {"v1": 90, "v2": 10, "v3": 0}


def test_version_without_pods_keeps_the_accepted_table(route: Proxy) -> None:
    route.table(v1=100)
    route.slices(v1=[1])
    route.settle()
    route.table(v2=100)
    route.agent.follow()
    assert accepted(route) == {"v1": 100}
    # The pods of the accepted table still change.
    route.slices(v1=[2])
    route.until(lambda: route.agent.follow() or route.get().text == "127.0.1.2")
    route.slices(v1=[2], v2=[3])
    route.settle()
    assert accepted(route) == {"v2": 100}
    assert route.get().text == "127.0.1.3"
    assert route.weights() == {"v2": {"3": 1}}


def test_version_that_fails_its_check_gets_no_requests(route: Proxy, impatient: None) -> None:
    route.pod(2).healthy = False
    route.table(v1=100)
    route.slices(v1=[1], v2=[2])
    route.settle()
    route.table(v1=50, v2=50)
    for _ in range(3):
        route.agent.follow()
        assert accepted(route) == {"v1": 100}
        assert route.weights() == {"v1": {"1": 1}, "v2": {"2": 0}}
    assert {route.get().text for _ in range(5)} == {"127.0.1.1"}
    # The pods of the accepted version still change.
    route.slices(v1=[3], v2=[2])
    route.until(lambda: route.agent.follow() or set(route.weights()["v1"]) == {"3"})
    assert route.weights() == {"v1": {"3": 1}, "v2": {"2": 0}}
    assert route.get().text == "127.0.1.3"
    route.pod(2).healthy = True
    route.settle()
    assert accepted(route) == {"v1": 50, "v2": 50}
    assert {route.get().text for _ in range(8)} == {"127.0.1.2", "127.0.1.3"}


@pytest.mark.parametrize(
    ("table", "pods"),
    [
        ({"v1": 90, "v2": 10}, {"v1": [1], "v2": [2]}),
        ({"v1": 90, "v2": 10}, {"v1": [1, 2], "v2": [3, 4, 5]}),
        ({"v1": 99, "v2": 1, "v3": 0}, {"v1": [1, 2, 3], "v2": [4], "v3": [5]}),
        ({"v1": 33, "v2": 33, "v3": 34}, {"v1": [1], "v2": [2], "v3": [3]}),
    ],
)
def test_shares_are_exact(route: Proxy, table: dict[str, int], pods: dict[str, list[int]]) -> None:
    route.table(**table)
    route.slices(**pods)
    route.settle()
    weights = route.weights()
    total = sum(sum(servers.values()) for servers in weights.values())
    for version, share in table.items():
        assert len(weights[version]) == len(pods[version])
        assert Fraction(100 * sum(weights[version].values()), total) == share


def test_shares_stay_when_pods_change(route: Proxy) -> None:
    route.table(v1=80, v2=20)
    for first in ([1], [1, 2, 3], [3], [3, 4]):
        route.slices(v1=first, v2=[9])
        route.settle()
        weights = route.weights()
        assert set(weights["v1"]) == set(map(str, first))
        weight_1, weight_2 = (sum(weights[version].values()) for version in ("v1", "v2"))
        assert weight_1 == 4 * weight_2


def test_removed_version_finishes_its_requests(route: Proxy) -> None:
    route.table(v1=100)
    route.slices(v1=[1], v2=[2])
    route.settle()
    answers: list[httpx.Response] = []
    slow = threading.Thread(target=lambda: answers.append(route.get("/slow")))
    slow.start()
    route.pod(1).busy.wait()
    route.table(v2=100)
    route.until(lambda: route.agent.follow() or accepted(route) == {"v2": 100})
    route.agent.follow()
    assert route.weights() == {"v1": {"1": 0}, "v2": {"2": 1}}, "it has a request in flight"
    assert route.get().text == "127.0.1.2"
    route.pod(1).go_on.set()
    slow.join()
    assert (answers[0].status_code, answers[0].text) == (200, "127.0.1.1")
    route.settle()
    assert route.weights() == {"v2": {"2": 1}}


def test_draining_version_returns_to_service(route: Proxy) -> None:
    route.table(v1=100)
    route.slices(v1=[1], v2=[2])
    route.settle()
    slow = threading.Thread(target=route.get, args=("/slow",))
    slow.start()
    route.pod(1).busy.wait()
    for table in ({"v2": 100}, {"v1": 100}):
        route.table(**table)
        route.until(lambda table=table: route.agent.follow() or accepted(route) == table)
    assert route.get().text == "127.0.1.1"
    route.pod(1).go_on.set()
    slow.join()
    route.settle()
    assert route.weights() == {"v1": {"1": 1}}


def test_all_pods_of_a_route_are_replaced(route: Proxy) -> None:
    route.table(v1=100, v2=0)
    route.slices(v1=[1], v2=[2])
    route.settle()
    route.slices(v2=[2])
    route.settle()
    assert route.weights() == {"v2": {"2": 0}}
    assert route.get().status_code == 503, "a version with weight 0 gets no requests"
    route.slices()
    route.settle()
    assert route.weights() == {}
    assert route.agent.ready, "the proxy itself is ready"
    assert route.get().json() == {
        "error": "no server of a version that gets requests is ready; try again"
    }
    route.slices(v1=[3], v2=[2])
    route.settle()
    assert route.get().text == "127.0.1.3"


def test_other_versions_get_the_requests_of_one_without_pods(route: Proxy) -> None:
    route.table(v1=90, v2=10)
    route.slices(v1=[1], v2=[2])
    route.settle()
    route.slices(v2=[2])
    route.settle()
    assert {route.get().text for _ in range(5)} == {"127.0.1.2"}
    route.slices(v1=[1], v2=[2])
    route.settle()
    assert route.weights() == {"v1": {"1": 9}, "v2": {"2": 1}}


VALID = {"service": "service-v2", "port": 1, "weight": 100, "check_path": "/ready"}


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"v2": "no JSON"},
        {"v2": "[1]"},
        {"v2": "null"},
        {"v2": "{}"},
        {"v2": json.dumps({**VALID, "more": 1})},
        {"v2": json.dumps({**VALID, "weight": "100"})},
        {"v2": json.dumps({**VALID, "weight": True})},
        {"v2": json.dumps({**VALID, "weight": -1})},
        {"v2": json.dumps({**VALID, "weight": 0})},
        {"v2": json.dumps({**VALID, "port": None})},
        {"v2": json.dumps({**VALID, "check_path": 1})},
    ],
)
def test_invalid_table_is_ignored(data: Any, capsys: Any) -> None:
    agent = Agent(ENDPOINT, RuntimeSocket("/none"))
    agent.take_table({"table": {"data": {"v1": json.dumps(VALID)}}})
    before = agent._desired
    agent.take_table({"table": {"data": data}})
    agent.take_table({})
    assert agent._desired == before is not None
    assert capsys.readouterr().out.startswith("the traffic table is invalid: ")


def test_loop_reports_a_proxy_that_does_not_respond(
    route: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "_SOCKET_SECONDS", 0.3)
    ended: list[BaseException] = []

    def run() -> None:
        try:
            route.agent.run()
        except ProxyUnresponsive as error:
            ended.append(error)

    following = threading.Thread(target=run)
    following.start()
    route.table(v1=100)
    route.slices(v1=[1])
    route.until(lambda: route.agent.ready)
    route.slices(v1=[2])
    route.until(lambda: route.get().text == "127.0.1.2")
    route.process.kill()
    route.process.wait()
    route.slices(v1=[1])
    following.join()
    assert len(ended) == 1


def test_next_agent_continues_from_the_stored_table(route: Proxy) -> None:
    """The agent was killed. The pods of its table are known, those of the next one are not."""
    route.table(v1=100)
    route.slices(v1=[1])
    route.settle()
    route.new_agent()
    assert route.agent.ready, "HAProxy serves, so the pod stays ready"
    assert accepted(route) == {"v1": 100}
    route.table(v2=100)
    route.slices(v1=[1, 2])
    route.until(lambda: route.agent.follow() or set(route.weights().get("v1", ())) == {"1", "2"})
    assert accepted(route) == {"v1": 100}
    route.slices(v1=[1, 2], v2=[3])
    route.settle()
    assert route.weights() == {"v2": {"3": 1}}


def test_stored_table_of_another_form_is_ignored(route: Proxy) -> None:
    route.table(v1=100)
    route.slices(v1=[1])
    route.settle()
    stored = route.files.folder / ROUTE_FILE
    content = json.loads(stored.read_text())
    stored.write_text(json.dumps({**content, "table": {"v1": {"unknown": 1}}}))
    route.new_agent()
    assert not route.agent.ready
    route.table(v1=100)
    route.slices(v1=[1])
    route.settle()
    assert route.weights() == {"v1": {"1": 1}}


def test_clients_of_a_proxy_that_shuts_down_reconnect(
    route: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle connection is closed by a response, not when its next request arrives."""
    monkeypatch.setattr(agent_module, "_LEAVE_SECONDS", 0)
    route.table(v1=100)
    route.slices(v1=[1])
    route.settle()
    with httpx.Client(trust_env=False) as client:
        assert "connection" not in client.get(f"{route.url}/").headers
        route.agent.drain()
        assert client.get(f"{route.url}/").headers["connection"] == "close"
        assert client.get(f"{route.url}/").status_code == 200
    # The kubelet can run the hook twice.
    route.agent.drain()
