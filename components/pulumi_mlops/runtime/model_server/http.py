"""The HTTP that the server needs beyond ASGI: responses, errors, bodies and request ids."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = b"application/json"
SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}")


class RequestError(Exception):
    """A request that cannot be answered: an HTTP status and one sentence for the client."""

    def __init__(self, status: int, message: str) -> None:
        # A message may quote the client's text, and UTF-8 has no lone surrogates.
        self.message = message.encode(errors="backslashreplace").decode()
        super().__init__(self.message)
        self.status = status
        self.request_id = ""  # the V2 request's own id, once it is known


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete HTTP response."""

    status: int
    body: bytes
    content_type: bytes = JSON
    close: bool = False
    retry_after: int = 0
    """Seconds for the header `Retry-After`; 0 is none."""


def new_request_id() -> str:
    """A fresh id, unique over all servers."""
    return uuid.uuid4().hex


def header(scope: Scope, name: bytes) -> str:
    """The first value of a header, or an empty string. ASGI gives names in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return ""


def client_request_id(scope: Scope) -> str:
    """The client's ``x-request-id`` if it is safe for logs and headers, or an empty string."""
    value = header(scope, b"x-request-id")
    return value if SANE_ID.fullmatch(value) else ""


def content_length(scope: Scope) -> int:
    """The header ``content-length``; 0 without it or for an invalid one."""
    length = header(scope, b"content-length")
    return int(length) if length.isdigit() else 0


def _allowed(limit: int) -> str:
    return f"at most {limit} are allowed (input max_request_body of the serving endpoint)"


def is_chunked(scope: Scope) -> bool:
    """Whether the size of the body is unknown before its end."""
    return bool(header(scope, b"transfer-encoding"))


def check_body(scope: Scope, limit: int) -> None:
    """Raise RequestError 413 if the body has more than ``limit`` bytes, and 415 if compressed."""
    if encoding := header(scope, b"content-encoding"):
        raise RequestError(415, f"Content-Encoding {encoding!r} is not supported; send it plain")
    length = header(scope, b"content-length")
    if length.isdigit() and int(length) > limit:
        raise RequestError(413, f"the body has {length} bytes; {_allowed(limit)}")


async def read_body(receive: Receive, limit: int, received: Callable[[int], None]) -> bytes:
    """The request's body. ``received`` is called with the size of each part.

    Raises RequestError 413 above ``limit`` bytes, and ClientGone.
    """
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise RequestError(413, f"the body is too large; {_allowed(limit)}")
        received(len(chunk))
        if not message.get("more_body", False):
            return b"".join([*chunks, chunk]) if chunks else chunk
        chunks.append(chunk)
