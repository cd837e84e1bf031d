"""An analyzed change of a route, with a real HAProxy: what it undoes, and what stays in effect."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.plugin.handler import Context
from pulumi_mlops.runtime.router import analysis
from pulumi_mlops.runtime.router.haproxy import service_of
from pulumi_mlops.targets.local.host.router import Router
from pulumi_mlops.targets.local.resources.route import RouteHandler, RouteInputs

from .cli_fixtures import made_stack
from .provider_fixtures import Log, make_context


class Server:
    """A server that answers each request with `status`."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.counts: dict[int, int] = {}
        server = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                if self.path == "/metrics":
                    self.wfile.write(server.exposition().encode())

            def do_POST(self) -> None:
                server.counts[server.status] = server.counts.get(server.status, 0) + 1
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(server.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def exposition(self) -> str:
        return "".join(
            f'mlops_inference_requests_total{{code="{code}",version="2"}} {count}.0\n'
            for code, count in list(self.counts.items())
        )

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Route:
    """A route with the versions v1 and v2, of which v1 gets all requests."""

    def __init__(self, folder: Path) -> None:
        self.log = Log()
        self.ctx = make_context(folder, "mlops:local:Route", "route", log=self.log)
        self.handler = RouteHandler()
        self.servers = {"v1": Server(), "v2": Server()}
        self.state: dict[str, Any] = {}
        inputs = self.inputs(v1=100)
        _, outputs = self.handler.create(self.ctx, RouteInputs.model_validate(inputs))
        self.state = {**inputs, **outputs}

    def inputs(self, seconds: float = 30, **weights: int) -> dict[str, Any]:
        services = {
            name: {"addresses": [self.servers[name].address], "weight": weight, "checkPath": "/"}
            for name, weight in weights.items()
        }
        limits = {"seconds": seconds, "minRequests": 20, "maxErrorRate": 0.05}
        return {"endpoint": "live", "services": services, "analysis": limits}

    def update(
        self,
        ctx: Context | None = None,
        seconds: float = 30,
        request_timeout: float = 300,
        **weights: int,
    ) -> None:
        inputs = self.inputs(seconds, **weights) | {"requestTimeoutSeconds": request_timeout}
        outputs = self.handler.update(
            ctx or self.ctx, "route", self.state, RouteInputs.model_validate(inputs)
        )
        self.state = {**inputs, **outputs}

    def weights(self) -> dict[str, int]:
        servers = Router(self.ctx, "route").runtime_socket.servers("live").values()
        return {service_of(each.name): each.weight for each in servers if each.in_service}

    @contextlib.contextmanager
    def load(self) -> Iterator[None]:
        """Requests, one after the other. The first one has its response."""
        answered, ended = threading.Event(), threading.Event()

        def send() -> None:
            with httpx.Client(trust_env=False) as client:
                while not ended.is_set():
                    # HAProxy may be restarting.
                    with contextlib.suppress(httpx.TransportError):
                        client.post(self.state["url"], content=b"{}")
                        answered.set()

        thread = threading.Thread(target=send)
        thread.start()
        try:
            assert answered.wait(10)
            yield
        finally:
            ended.set()
            thread.join()

    def end(self) -> None:
        self.handler.delete(self.ctx, "route", self.state)
        for server in self.servers.values():
            server.end()


@pytest.fixture(scope="module")
def shared() -> Iterator[Route]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, made_stack(Path(folder)):
        made = Route(Path(folder))
        yield made
        made.end()


@pytest.fixture
def route(shared: Route) -> Iterator[Route]:
    """All requests go to v1, and v2 never had one."""
    for server in shared.servers.values():
        server.status = 200
        server.counts.clear()
    before = shared.state
    yield shared
    shared.log.lines.clear()
    if shared.state is not before:
        shared.update(v1=100)
        shared.state["served"] = ["v1"]


def test_an_idle_endpoint_is_not_analyzed(route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "IDLE_SECONDS", -1)  # whatever the tests before sent
    started = time.monotonic()
    route.update(v1=50, v2=50)
    assert time.monotonic() - started < 15
    (warning,) = route.log.of("warning")
    assert warning.startswith("live got no request in the last 60 s: the errors of v2 were not")
    assert route.state["served"] == ["v1", "v2"]


def test_a_version_without_errors_passes(route: Route) -> None:
    with route.load():
        route.update(v1=50, v2=50)
    assert route.log.of("warning") == []
    assert route.state["served"] == ["v1", "v2"]
    assert set(route.weights()) == {"v1", "v2"}


def test_overload_is_inconclusive(route: Route) -> None:
    route.servers["v2"].status = 503
    with route.load():
        route.update(v1=50, v2=50, seconds=1)
    (warning,) = route.log.of("warning")
    assert "v2 got 0 requests in 1 s, and 20 are required" in warning


def test_a_rollback_is_never_undone(route: Route) -> None:
    route.update(v1=100, v2=0)
    route.state["served"] = ["v1", "v2"]
    route.servers["v2"].status = 500
    with route.load():
        route.update(v1=0, v2=100)
    assert route.weights()["v2"] > 0
    assert route.log.of("warning") == []


def test_too_many_errors_restore_the_weights(route: Route) -> None:
    route.servers["v2"].status = 500
    with route.load(), pytest.raises(ResourceError) as failure:
        route.update(v2=100)
    assert "v2 answered" in str(failure.value)
    assert str(failure.value).endswith("the previous weights are in effect again")
    assert route.weights() == {"v1": route.weights()["v1"]}
    assert route.weights()["v1"] > 0


@pytest.mark.parametrize("request_timeout", [300, 100], ids=["weights", "restart"])
def test_an_interrupt_restores_the_weights(route: Route, request_timeout: float) -> None:
    """The previous servers are in the proxy during the analysis. Another time limit restarts it."""
    during: dict[str, int] = {}

    class Interrupt(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            with contextlib.suppress(OSError):  # HAProxy is being restarted
                weights = route.weights()
                if weights.get("v2"):
                    during.update(weights)
                    self.set()
            return super().wait(timeout)

    ctx = replace(route.ctx, cancelled=Interrupt())
    with route.load(), pytest.raises(ResourceError, match="interrupted") as failure:
        route.update(ctx, v2=100, request_timeout=request_timeout)
    assert str(failure.value).endswith("the previous weights are in effect again")
    assert during["v1"] == 0
    weights = route.weights()
    assert weights["v1"] > 0
    assert not weights.get("v2")
