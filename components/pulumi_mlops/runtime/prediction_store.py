"""Stores of the prediction log: a folder of this machine, or a bucket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit


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
        """Put one object. boto3's retries are off: the prediction log retries with the same key."""
        if self._client is None:
            self._client = self._connect()
        full_key = f"{self.prefix}/{key}" if self.prefix else key
        self._client.put_object(Bucket=self.bucket, Key=full_key, Body=data)

    def _connect(self) -> Any:
        # Imported here to run in the background thread, and only for this store.
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        config = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 1})
        if os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
            # S3-compatible stores do not use bucket names as host names, and some do not support
            # the checksums that the AWS SDK adds by default.
            config = config.merge(
                Config(
                    s3={"addressing_style": "path"},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
            )
        return boto3.client("s3", config=config)


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
