"""A bounded load of keep-alive POST clients that forgives nothing.

    with Load(f"{url}/v2/models/penguins/infer", body) as load:
        load.wait(200)              # until 200 more requests are answered
        before = load.result()
        ...                         # what must not be noticed
        load.wait(200)
        seen = load.result() - before
    assert not seen.failures
    assert seen.versions["2"] > 0

Every client has one connection and one request at a time, as most model clients do. A connection
that breaks, times out or is closed in the middle is a failure, and so is any status but 200;
nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Result:
    """What the clients have seen: requests answered, failures in their words, and who answered."""

    requests: int = 0
    failures: tuple[str, ...] = ()
    versions: Counter[str] = field(default_factory=Counter)
    servers: Counter[str] = field(default_factory=Counter)

    def __sub__(self, before: Result) -> Result:
        return Result(
            self.requests - before.requests,
            self.failures[len(before.failures) :],
            self.versions - before.versions,
            self.servers - before.servers,
        )


class Load:
    """Clients in a thread of their own.

    `pause` is how many seconds a client rests after an answer: it bounds the load. `timeout` is
    how long an answer may take before it counts as a failure. `address` is the host to connect to,
    where the URL's is a name that nothing resolves.
    """

    def __init__(
        self,
        url: str,
        body: bytes = b"{}",
        *,
        clients: int = 16,
        pause: float = 0.02,
        timeout: float = 60.0,
        version_header: str = "x-model-version",
        server_header: str = "x-served-by",
        address: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = address or parts.hostname or "127.0.0.1", parts.port or 80
        path = parts.path or "/"
        self._request = (
            f"POST {path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._clients, self._pause, self._timeout = clients, pause, timeout
        self._headers = version_header.lower(), server_header.lower()
        self._versions: Counter[str] = Counter()
        self._servers: Counter[str] = Counter()
        self._requests = 0
        self._failures: list[str] = []
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")

    def start(self) -> Load:
        self._thread.start()
        return self

    def stop(self) -> Result:
        """Let every client have its last answer; the result of the whole run."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        return self.result()

    def result(self) -> Result:
        """What has been seen so far."""
        with self._changed:
            return Result(
                self._requests,
                tuple(self._failures),
                Counter(self._versions),
                Counter(self._servers),
            )

    def wait(self, requests: int) -> Result:
        """Return once so many more requests have been answered or have failed."""
        with self._changed:
            until = self._requests + len(self._failures) + requests
            while self._requests + len(self._failures) < until:
                if not self._changed.wait(self._timeout):
                    raise TimeoutError(f"no answer and no failure within {self._timeout:g} s")
        return self.result()

    def __enter__(self) -> Load:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))

    async def _client(self, number: int) -> None:
        await asyncio.sleep(self._pause * number / self._clients)
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(self._timeout):
                    if connection is None:
                        connection = await asyncio.open_connection(self._host, self._port)
                    status, headers, body = await self._exchange(*connection)
                failure = None if status == 200 else f"{status}: {body[:200]!r}"
            except (OSError, EOFError, ValueError) as error:
                failure = f"{type(error).__name__}: {error}"
                headers = {"connection": "close"}
            self._note(headers, failure)
            if connection is not None and headers.get("connection") == "close":
                await _close(connection[1])
                connection = None
            await asyncio.sleep(self._pause)
        if connection is not None:
            await _close(connection[1])

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[int, dict[str, str], bytes]:
        writer.write(self._request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size + 2)
            await reader.readexactly(2)
        else:
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, body

    def _note(self, headers: dict[str, str], failure: str | None) -> None:
        version, server = (headers.get(name, "") for name in self._headers)
        with self._changed:
            if failure is None:
                self._requests += 1
                self._versions[version] += 1
                self._servers[server] += 1
            else:
                self._failures.append(f"{failure} (version {version or '-'}, {server or '-'})")
            self._changed.notify_all()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
