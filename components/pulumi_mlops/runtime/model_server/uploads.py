"""The bound on bodies that are still being received, apart from the queue of complete requests.

A slow upload holds only what has arrived of it. Small bodies are not counted, so that slow clients
with large bodies cannot keep those with small ones out. The number of connections is bounded by
the proxy.
"""

from __future__ import annotations

SMALL_BODY_BYTES = 65536


class UploadsFull(Exception):
    """The bodies that are being received take too many bytes."""


class Uploads:
    """The bodies that are being received."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0

    def start(self) -> Upload:
        """A new body."""
        return Upload(self)

    def count(self, previous: int, size: int) -> None:
        """A counted body grew from `previous` to `size` bytes. Raises UploadsFull.

        One body may be larger than the bound if it is the only one.
        """
        rest = self._bytes - previous
        if rest and size > previous and rest + size > self._max_bytes:
            raise UploadsFull(f"bodies of {self._bytes} bytes are being received already")
        self._bytes = rest + size


class Upload:
    """One body. `size` is the number of bytes received."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._counted = 0
        self.size = 0

    def received(self, count: int) -> None:
        """More bytes have arrived. Raises UploadsFull if they are too many."""
        self.size += count
        if self.size > SMALL_BODY_BYTES:
            self._uploads.count(self._counted, self.size)
            self._counted = self.size

    def end(self) -> None:
        """The body is complete, or was refused."""
        self._uploads.count(self._counted, 0)
        self._counted = 0
