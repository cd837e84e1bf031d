"""Stores of the prediction log: a folder of this machine, or a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from pulumi_mlops.runtime.s3.connection import connect, endpoint_of_environment


class Store(Protocol):
    """Storage for complete files. A second ``put`` of a key replaces the file."""

    def put(self, key: str, data: bytes) -> None:
        """Write a file. Raises an exception if that fails."""


class FolderStore:
    """A folder on this machine. A file becomes visible when it is complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, data: bytes) -> None:
        """Write a temporary file and rename it, because readers list the folder at any time."""
        target = self.folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        partial.write_bytes(data)
        partial.replace(target)


class S3Store:
    """A bucket and prefix. Credentials, region and endpoint are read from the AWS variables."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self._client: Any = None

    def put(self, key: str, data: bytes) -> None:
        """Put one object. botocore does not retry: the prediction log does, with the same key."""
        if self._client is None:
            # Created here to import botocore in the background thread, and only for this store.
            self._client = connect(endpoint_of_environment(), read_timeout=30, attempts=1)
        full_key = f"{self.prefix}/{key}" if self.prefix else key
        self._client.put_object(Bucket=self.bucket, Key=full_key, Body=data)


def store_for(location: str) -> Store:
    """The store for a location: ``s3://bucket/prefix`` or a local folder.

    Raises ValueError with the location for other locations.
    """
    parts = urlsplit(location)
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(parts.netloc, parts.path.strip("/"))
    if parts.scheme in ("", "file") and not parts.netloc and parts.path:
        return FolderStore(Path(parts.path))
    raise ValueError(f"{location!r} is not a location: use s3://bucket/prefix or a folder")
