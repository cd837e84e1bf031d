"""A small model server for tests: readiness, a version in every answer, an orderly end.

    python replica.py PORT VERSION READY_PATH

SIGTERM makes readiness fail at once; a second later the server stops, once it has answered what it
had begun. SIGUSR1 makes it fail its readiness without ending. A request's body may say how long
its answer takes: {"seconds": 1.5}.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

PORT, VERSION, READY_PATH = int(sys.argv[1]), sys.argv[2], sys.argv[3]
READY = asyncio.Event()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["method"] == "GET":
        ready = READY.is_set() and scope["path"] == READY_PATH
        status, answer = (200, {}) if ready else (503, {"error": "not ready"})
    else:
        await asyncio.sleep(json.loads(body or b"{}").get("seconds", 0.005))
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        status, answer = 200, {"version": VERSION, "headers": headers}
    text = json.dumps(answer).encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-length", str(len(text)).encode()),
                (b"x-model-version", VERSION.encode()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": text})


class WholeResponses(HttpToolsProtocol):
    """Writes head and body in one piece. A kill between two writes would break a response, and no
    proxy can send a request again after it passed on the head of the response."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_JoinedWrites(transport, self.loop))


class _JoinedWrites:
    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop, self._parts = transport, loop, b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts += data

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        parts, self._parts = self._parts, b""
        if parts:
            self._transport.write(parts)


async def main() -> None:
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=WholeResponses,
            host="127.0.0.1",
            port=PORT,
            lifespan="off",
            log_level="warning",
            timeout_keep_alive=75,
        )
    )
    loop = asyncio.get_running_loop()

    def end() -> None:
        READY.clear()
        loop.call_later(1.0, lambda: setattr(server, "should_exit", True))

    READY.set()
    serving = asyncio.ensure_future(server._serve())  # without its own signal handlers
    loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_signal_handler(signal.SIGUSR1, READY.clear)
    await serving


asyncio.run(main())
