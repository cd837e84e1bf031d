"""HTTP connections that send the headers and the body of a response with one system call.

uvicorn writes them apart. A server that is killed between the two leaves the proxy with half of a
response, which the proxy cannot request again from another server.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class OneWriteTransport:
    """Delays the headers of a response until its body is written, or until the next callback.

    Other attributes are those of the transport.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._headers = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write `data`, after the headers that were delayed."""
        if not self._headers and data.endswith(b"\r\n\r\n") and data.startswith(b"HTTP/1.1 "):
            self._headers = data
            # A response without a body has no second write.
            self._loop.call_soon(self._flush)
            return
        headers, self._headers = self._headers, b""
        self._transport.write(headers + data)

    def close(self) -> None:
        """Close the connection after everything is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._headers:
            self.write(b"")


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn's protocol with such a transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop for each new connection."""
        super().connection_made(OneWriteTransport(transport, self.loop))  # type: ignore[arg-type]
