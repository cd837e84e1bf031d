"""The processes of a route's pod, with a server in place of the cluster's API."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pulumi_mlops.runtime.router import pod as pod_module
from pulumi_mlops.runtime.router.pod import Child, Delay

from .router_fixtures import Pod, free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="HAProxy is there for Linux")


class Api(BaseHTTPRequestHandler):
    """Lists one table and one pod; its watches stay open without events."""

    port = 0

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        if "watch=1" in self.path:
            threading.Event().wait(60)
            return
        entry = {"service": "v1", "port": self.port, "weight": 100, "check_path": "/ready"}
        items = [
            {"metadata": {"name": "table"}, "data": {"v1": json.dumps(entry)}}
            if "configmaps" in self.path
            else {
                "metadata": {"name": "a", "labels": {"kubernetes.io/service-name": "v1"}},
                "endpoints": [{"addresses": ["127.0.1.1"], "conditions": {"ready": True}}],
            }
        ]
        body = {"metadata": {"resourceVersion": "1"}, "items": items}
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / "token").write_text("token")


class RunningPod:
    """`python -m pulumi_mlops.runtime.router`, with one model server behind it."""

    def __init__(self, folder: Path, api: str) -> None:
        self.port, self.state_port = free_port(), free_port()
        env = {
            **os.environ,
            "HOST": "127.0.0.1", "PORT": str(self.port), "PORT_METRICS": str(free_port()),
            "PORT_STATE": str(self.state_port), "RUNTIME_DIR": str(folder), "NAMESPACE": "n",
            "MLOPS_ENDPOINT": "live", "MLOPS_TABLE": "table", "SERVICE_ACCOUNT_DIR": str(folder),
            "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": api,
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pulumi_mlops.runtime.router"], env=env
        )

    def child(self, word: str) -> psutil.Process:
        """The child process whose command line contains a word."""
        while (child := self.child_or_none(word)) is None:
            time.sleep(0.01)
        return child

    def child_or_none(self, word: str) -> psutil.Process | None:
        """The same, or None without such a process."""
        with contextlib.suppress(psutil.NoSuchProcess):  # the pod has ended
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.Error):  # it has just ended
                    if word in " ".join(child.cmdline()):
                        return child
        return None

    def wait_ready(self) -> None:
        while self.state("/ready") != 200:
            assert self.process.poll() is None, "the pod has ended"
            time.sleep(0.02)

    def state(self, path: str) -> int | None:
        try:
            return httpx.get(
                f"http://127.0.0.1:{self.state_port}{path}", trust_env=False
            ).status_code
        except httpx.TransportError:
            return None

    def get(self, path: str = "/") -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=60)

    def end(self) -> None:
        for process in [*psutil.Process(self.process.pid).children(), self.process]:
            process.kill()
        self.process.wait()


@pytest.fixture
def server() -> Iterator[Pod]:
    made = Pod("127.0.1.1", free_port())
    yield made
    made.end()


@pytest.fixture
def route(tmp_path: Path, server: Pod, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningPod]:
    write_certificate(tmp_path)
    monkeypatch.setattr(Api, "port", server.port)
    api = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    api.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.crt", tmp_path / "key.pem")
    api.socket = context.wrap_socket(api.socket, server_side=True)
    threading.Thread(target=api.serve_forever, args=(0.01,), daemon=True).start()
    made = RunningPod(tmp_path, str(api.server_port))
    made.wait_ready()
    yield made
    if made.process.poll() is None:
        made.end()
    api.shutdown()
    api.server_close()


class Clients:
    """Clients in threads: half with keep-alive, half with a new connection for each request."""

    def __init__(self, route: RunningPod, number: int = 8) -> None:
        self.failures: list[str] = []
        self.longest = 0.0
        self.answered = 0
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(route, index % 2 == 0))
            for index in range(number)
        ]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def wait(self, requests: int) -> None:
        until = self.answered + requests
        while self.answered < until:
            time.sleep(0.01)

    def _run(self, route: RunningPod, keep_alive: bool) -> None:
        client = httpx.Client(trust_env=False, timeout=60)
        while not self._ending.is_set():
            begun = time.monotonic()
            try:
                status = client.get(f"http://127.0.0.1:{route.port}/").status_code
                if status != 200:
                    self.failures.append(str(status))
            except httpx.TransportError as error:
                self.failures.append(type(error).__name__)
            self.longest = max(self.longest, time.monotonic() - begun)
            self.answered += 1
            if not keep_alive:
                client.close()
                client = httpx.Client(trust_env=False, timeout=60)
            time.sleep(0.01)
        client.close()


def test_killed_agent_fails_no_request(route: RunningPod, server: Pod) -> None:
    proxy = route.child("haproxy.cfg").pid
    slow: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: slow.append(route.get("/slow")))
    asking.start()
    server.busy.wait()
    with Clients(route) as clients:
        clients.wait(50)
        agent = route.child("agent_process")
        agent.kill()
        killed = time.monotonic()
        while route.child("agent_process").pid == agent.pid:
            time.sleep(0.01)
        route.wait_ready()
        print(f"the agent is ready again after {time.monotonic() - killed:.2f} s")
        clients.wait(50)
    server.go_on.set()
    asking.join()
    assert clients.failures == []
    assert slow[0].status_code == 200
    assert route.child("haproxy.cfg").pid == proxy


def test_killed_haproxy_refuses_no_connection(route: RunningPod) -> None:
    """A request in flight is lost with it. New connections wait until it runs again."""
    with Clients(route) as clients:
        clients.wait(50)
        killed = time.monotonic()
        route.child("haproxy.cfg").kill()
        assert route.get().status_code == 200
        print(f"a new connection was answered after {time.monotonic() - killed:.2f} s")
        clients.wait(50)
    assert "ConnectError" not in clients.failures
    assert len(clients.failures) <= 8, "at most one request of each client was in flight"
    assert route.state("/ready") == 200


def test_sigterm_finishes_requests_in_flight(route: RunningPod, server: Pod) -> None:
    slow: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: slow.append(route.get("/slow")))
    asking.start()
    server.busy.wait()
    route.process.send_signal(signal.SIGTERM)
    while True:
        try:
            route.get()
        except httpx.TransportError:
            break
    server.go_on.set()
    asking.join()
    assert slow[0].status_code == 200
    assert route.process.wait() == 0


def test_restarted_container_serves_before_its_agent(
    route: RunningPod, tmp_path: Path, server: Pod
) -> None:
    """The kubelet starts the container again in the same volume. No API answers."""
    route.end()
    again = RunningPod(tmp_path, "9")
    try:
        while True:
            try:
                assert again.get().status_code == 200
                break
            except httpx.TransportError:
                time.sleep(0.01)
        again.wait_ready()
    finally:
        again.end()


def test_haproxy_that_ends_by_itself_ends_the_pod(route: RunningPod) -> None:
    config = Path(route.child("haproxy.cfg").cwd()) / "haproxy.cfg"
    while route.process.poll() is None:
        # The agent writes the file too, so a single write could be lost.
        config.write_text("invalid")
        if (haproxy := route.child_or_none("haproxy.cfg")) is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                haproxy.kill()
        time.sleep(0.02)
    assert route.process.returncode == 1


def test_delay_doubles_until_a_process_is_stable() -> None:
    delay = Delay()
    assert [delay.seconds(0) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert delay.seconds(60) == 0.1


def test_process_that_ends_at_once_is_not_started_in_a_busy_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now

    monkeypatch.setattr(pod_module, "time", Clock)
    child = Child("it", ["false"], tmp_path)
    starts = []
    for _ in range(200):
        before = child.process
        child.poll()
        if child.process is not None and before is None:
            starts.append(now)
            child.process.wait()
        now += 0.05
    assert len(starts) <= 8, starts
