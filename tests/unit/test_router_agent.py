"""The agent of a route's pod: a real HAProxy kept as the table and the ready pods say."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import httpx
import pytest

from pulumi_mlops.runtime.router import agent as agent_module
from pulumi_mlops.runtime.router.__main__ import _follow
from pulumi_mlops.runtime.router.agent import Agent
from pulumi_mlops.runtime.router.haproxy_socket import RuntimeSocket

from .router_fixtures import ENDPOINT, Proxy, proxy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="HAProxy is there for Linux")


@pytest.fixture
def route() -> Iterator[Proxy]:
    with proxy() as made:
        yield made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not pass now does not pass."""
    monkeypatch.setattr(agent_module, "_CHECK_SECONDS", 0)


def tables(route: Proxy) -> dict[str, int] | None:
    found = route.agent.state()["table"]
    return found and {version: entry["weight"] for version, entry in found.items()}


def test_nothing_counts_before_both_are_known(route: Proxy) -> None:
    route.agent.follow()
    route.table(v1=100)
    route.agent.follow()
    assert not route.agent.ready
    assert tables(route) is None
    route.slices(v1=[1])
    route.settle()
    assert route.agent.ready
    assert tables(route) == {"v1": 100}
    assert route.get().text == "127.0.1.1"


def test_the_state_is_the_table_as_the_program_wrote_it(route: Proxy) -> None:
    route.table(v1=100)
    route.slices(v1=[1])
    route.settle()
    entry = {"service": "service-v1", "port": route.port, "weight": 100, "check_path": "/ready"}
    assert json.loads(json.dumps(route.agent.state())) == {"table": {"v1": entry}}


def test_a_first_table_waits_for_all_its_versions(route: Proxy, capsys: Any) -> None:
    route.table(v1=90, v2=10, v3=0)
    route.slices(v1=[1])
    route.agent.follow()
    assert not route.agent.ready
    assert capsys.readouterr().out == "no pod of v2 is ready: the table before goes on\n"
    route.slices(v1=[1], v2=[2])
    route.settle()
    assert tables(route) == {"v1": 90, "v2": 10, "v3": 0}


def test_a_version_without_pods_leaves_the_table_before(route: Proxy) -> None:
    route.table(v1=100)
    route.slices(v1=[1])
    route.settle()
    route.table(v2=100)
    route.agent.follow()
    assert tables(route) == {"v1": 100}
    # The pods of the one that goes on come and go all the same.
    route.slices(v1=[2])
    route.agent.follow()
    route.until(lambda: route.get().text == "127.0.1.2")
    route.slices(v1=[2], v2=[3])
    route.settle()
    assert tables(route) == {"v2": 100}
    assert route.get().text == "127.0.1.3"
    assert route.weights() == {"v2": {"3": 1}}


def test_a_version_that_does_not_pass_gets_nothing(route: Proxy, impatient: None) -> None:
    route.pod(2).healthy = False
    route.table(v1=100)
    route.slices(v1=[1], v2=[2])
    route.settle()
    route.table(v1=50, v2=50)
    for _ in range(3):
        route.agent.follow()
        assert tables(route) == {"v1": 100}
        assert route.weights() == {"v1": {"1": 1}, "v2": {"2": 0}}
    assert {route.get().text for _ in range(5)} == {"127.0.1.1"}
    # Pods of the version that goes on come and go meanwhile.
    route.slices(v1=[3], v2=[2])
    route.until(lambda: route.agent.follow() or set(route.weights()["v1"]) == {"3"})
    assert route.weights() == {"v1": {"3": 1}, "v2": {"2": 0}}
    assert route.get().text == "127.0.1.3"
    route.pod(2).healthy = True
    route.settle()
    assert tables(route) == {"v1": 50, "v2": 50}
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


def test_shares_stay_when_pods_come_and_go(route: Proxy) -> None:
    route.table(v1=80, v2=20)
    for first in ([1], [1, 2, 3], [3], [3, 4]):
        route.slices(v1=first, v2=[9])
        route.settle()
        weights = route.weights()
        assert set(weights["v1"]) == set(map(str, first))
        one, other = (sum(weights[version].values()) for version in ("v1", "v2"))
        assert one == 4 * other


def test_a_version_that_goes_finishes_what_it_began(route: Proxy) -> None:
    route.table(v1=100)
    route.slices(v1=[1], v2=[2])
    route.settle()
    answers: list[httpx.Response] = []
    slow = threading.Thread(target=lambda: answers.append(route.get("/slow")))
    slow.start()
    route.pod(1).busy.wait()
    route.table(v2=100)
    route.until(lambda: route.agent.follow() or tables(route) == {"v2": 100})
    route.agent.follow()
    assert route.weights() == {"v1": {"1": 0}, "v2": {"2": 1}}, "it has a request still"
    assert route.get().text == "127.0.1.2"
    route.pod(1).go_on.set()
    slow.join()
    assert (answers[0].status_code, answers[0].text) == (200, "127.0.1.1")
    route.settle()
    assert route.weights() == {"v2": {"2": 1}}


def test_a_version_comes_back_before_it_is_gone(route: Proxy) -> None:
    route.table(v1=100)
    route.slices(v1=[1], v2=[2])
    route.settle()
    slow = threading.Thread(target=route.get, args=("/slow",))
    slow.start()
    route.pod(1).busy.wait()
    for table in ({"v2": 100}, {"v1": 100}):
        route.table(**table)
        route.until(lambda table=table: route.agent.follow() or tables(route) == table)
    assert route.get().text == "127.0.1.1"
    route.pod(1).go_on.set()
    slow.join()
    route.settle()
    assert route.weights() == {"v1": {"1": 1}}


def test_all_pods_of_a_route_may_go_and_come_back(route: Proxy) -> None:
    route.table(v1=100, v2=0)
    route.slices(v1=[1], v2=[2])
    route.settle()
    route.slices(v2=[2])
    route.settle()
    assert route.weights() == {"v2": {"2": 0}}
    assert route.get().status_code == 503, "the one that waits gets nothing"
    route.slices()
    route.settle()
    assert route.weights() == {}
    assert route.agent.ready, "it is not the proxy that is at fault"
    assert route.get().json() == {
        "error": "no server of a version that gets requests is ready; try again"
    }
    route.slices(v1=[3], v2=[2])
    route.settle()
    assert route.get().text == "127.0.1.3"


def test_when_one_version_is_gone_the_others_share(route: Proxy) -> None:
    route.table(v1=90, v2=10)
    route.slices(v1=[1], v2=[2])
    route.settle()
    route.slices(v2=[2])
    route.settle()
    assert {route.get().text for _ in range(5)} == {"127.0.1.2"}
    route.slices(v1=[1], v2=[2])
    route.settle()
    assert route.weights() == {"v1": {"1": 9}, "v2": {"2": 1}}


GOOD = {"service": "service-v2", "port": 1, "weight": 100, "check_path": "/ready"}


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"v2": "no JSON"},
        {"v2": "[1]"},
        {"v2": "null"},
        {"v2": "{}"},
        {"v2": json.dumps({**GOOD, "more": 1})},
        {"v2": json.dumps({**GOOD, "weight": "100"})},
        {"v2": json.dumps({**GOOD, "weight": True})},
        {"v2": json.dumps({**GOOD, "weight": -1})},
        {"v2": json.dumps({**GOOD, "weight": 0})},
        {"v2": json.dumps({**GOOD, "port": None})},
        {"v2": json.dumps({**GOOD, "check_path": 1})},
    ],
)
def test_a_table_that_cannot_be_leaves_the_one_before(data: Any, capsys: Any) -> None:
    agent = Agent(ENDPOINT, RuntimeSocket("/none"))
    agent.take_table({"table": {"data": {"v1": json.dumps(GOOD)}}})
    before = agent._wanted
    agent.take_table({"table": {"data": data}})
    agent.take_table({})
    assert agent._wanted == before is not None
    assert capsys.readouterr().out.startswith("the table cannot be read: ")


def test_the_loop_takes_changes_and_ends_with_its_haproxy(route: Proxy) -> None:
    following = threading.Thread(target=_follow, args=(route.agent, route.process))
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


def test_a_loop_that_fails_ends_its_haproxy() -> None:
    """Else it would go on with the servers of that moment, for ever."""

    class Broken:
        def run(self) -> None:
            raise ZeroDivisionError

    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with pytest.raises(ZeroDivisionError):
        _follow(Broken(), process)  # type: ignore[arg-type]
    assert process.wait() != 0


def test_clients_of_a_proxy_that_is_to_end_come_back_by_another(
    route: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kept connection ends with an answer, never just when its next request comes."""
    monkeypatch.setattr(agent_module, "_LEAVE_SECONDS", 0)
    route.table(v1=100)
    route.slices(v1=[1])
    route.settle()
    with httpx.Client(trust_env=False) as client:
        assert "connection" not in client.get(f"{route.url}/").headers
        route.agent.drain()
        assert client.get(f"{route.url}/").headers["connection"] == "close"
        assert client.get(f"{route.url}/").status_code == 200
    # The kubelet may run the hook twice.
    route.agent.drain()
