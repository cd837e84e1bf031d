"""Reading of the artifact store: listings in order, and complete objects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from pulumi_mlops.runtime.s3.connection import connect, endpoint_of_environment

_IN_MEMORY = 32 * 2**20


@dataclass(frozen=True)
class StoredFile:
    """A file of the store. ``version`` changes with its content, ``time`` is that of its write."""

    key: str
    version: str
    time: float


class SourceStore(Protocol):
    """A store with files below prefixes. Each call raises OSError if the store fails."""

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly below ``prefix``, which ends with ``/``."""

    def files(self, prefix: str) -> Iterator[StoredFile]:
        """The files below ``prefix``, by key."""

    def open(self, key: str) -> Any:
        """A context manager of the content as a binary file that can seek."""


class SourceFolder:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def folders(self, prefix: str) -> list[str]:
        """See :class:`SourceStore`."""
        folder = self.folder / prefix
        return sorted(each.name for each in folder.iterdir() if each.is_dir()) if (
            folder.is_dir()
        ) else []  # fmt: skip

    def files(self, prefix: str) -> Iterator[StoredFile]:
        """See :class:`SourceStore`. Hidden files are not complete."""
        found = (each for each in (self.folder / prefix).rglob("*") if each.is_file())
        for file in sorted(each for each in found if not each.name.startswith(".")):
            status = file.stat()
            key = file.relative_to(self.folder).as_posix()
            version = f"{status.st_mtime_ns}-{status.st_size}"
            yield StoredFile(key, version, status.st_mtime)

    @contextmanager
    def open(self, key: str) -> Iterator[IO[bytes]]:
        """See :class:`SourceStore`."""
        with (self.folder / key).open("rb") as file:
            yield file


class SourceBucket:
    """A bucket and prefix. Credentials, region and endpoint are read from the AWS variables."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self._client: Any = connect(endpoint_of_environment())

    def folders(self, prefix: str) -> list[str]:
        """See :class:`SourceStore`."""
        whole = self.prefix + prefix
        return sorted(
            each["Prefix"][len(whole) :].rstrip("/")
            for page in self._pages(whole, Delimiter="/")
            for each in page.get("CommonPrefixes", [])
        )

    def files(self, prefix: str) -> Iterator[StoredFile]:
        """See :class:`SourceStore`."""
        for page in self._pages(self.prefix + prefix):
            for each in page.get("Contents", []):
                key = each["Key"][len(self.prefix) :]
                if not key.endswith("/"):
                    yield StoredFile(key, each["ETag"], each["LastModified"].timestamp())

    def _pages(self, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, **options
        )
        with _os_errors(prefix):
            yield from pages

    @contextmanager
    def open(self, key: str) -> Iterator[IO[bytes]]:
        """See :class:`SourceStore`. A large object is a temporary file."""
        from boto3.s3.transfer import TransferConfig, create_transfer_manager  # noqa: PLC0415

        with SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
            manager = create_transfer_manager(self._client, TransferConfig())
            with _os_errors(key), manager:
                manager.download(self.bucket, self.prefix + key, file).result()
            file.seek(0)
            yield file


@contextmanager
def _os_errors(what: str) -> Iterator[None]:
    """Turn errors of boto3 into OSError with the first line of the message."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise OSError(f"{what}: {str(error).splitlines()[0]}") from None


def store_for(location: str) -> SourceStore:
    """The store for a location: ``s3://bucket/prefix`` or a folder.

    Raises ValueError with the location for others.
    """
    parts = urlsplit(location)
    if parts.scheme == "s3" and parts.netloc:
        return SourceBucket(parts.netloc, parts.path.strip("/"))
    if parts.scheme in ("", "file") and not parts.netloc and parts.path:
        return SourceFolder(Path(parts.path))
    raise ValueError(f"{location!r} is not a location: use s3://bucket/prefix or a folder")
