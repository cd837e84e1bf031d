"""Responses are written with one call, so that a killed server never leaves half of one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from pulumi_mlops.runtime.model_server.one_write import OneWriteProtocol


class Transport(asyncio.Transport):
    """Records the writes of a protocol."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def app(scope: Any, receive: Any, send: Any) -> None:
    body = b"" if scope["path"] == "/empty" else b"x" * 26
    await receive()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize(
    ("request_line", "headers", "ends_with", "closed"),
    [
        ("GET /", "", b"\r\n\r\n" + b"x" * 26, False),
        ("GET /empty", "", b"\r\n\r\n", False),
        ("HEAD /", "", b"\r\n\r\n", False),
        ("GET /", "connection: close\r\n", b"x" * 26, True),
        ("HEAD /", "connection: close\r\n", b"\r\n\r\n", True),
    ],
)
def test_a_response_is_written_at_once(
    request_line: str, headers: str, ends_with: bytes, closed: bool
) -> None:
    async def run() -> Transport:
        config = uvicorn.Config(app, http=OneWriteProtocol, lifespan="off")
        config.load()
        protocol = OneWriteProtocol(config, ServerState(), {})
        transport = Transport()
        protocol.connection_made(transport)
        for _ in range(2 - closed):
            protocol.data_received(f"{request_line} HTTP/1.1\r\nhost: a\r\n{headers}\r\n".encode())
            await asyncio.sleep(0.01)
        assert transport.closed is closed
        protocol.connection_lost(None)
        return transport

    transport = asyncio.run(run())
    assert len(transport.writes) == 2 - closed
    assert all(each.startswith(b"HTTP/1.1 200 OK\r\n") for each in transport.writes)
    assert all(each.endswith(ends_with) for each in transport.writes)
