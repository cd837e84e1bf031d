"""What a bucket holds, and how it is emptied."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from pulumi_mlops.runtime.errors import ResourceError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MANY = 10_000
_BATCH = 1000  # the most that one request deletes


@dataclass(frozen=True)
class Contents:
    """A count of what is in a bucket, up to 10,000 entries."""

    objects: int = 0
    older: int = 0
    markers: int = 0
    uploads: int = 0
    first: str = ""
    more: bool = False

    def __bool__(self) -> bool:
        return bool(self.objects or self.older or self.markers or self.uploads)

    def __str__(self) -> str:
        parts = [
            f"{count} {noun}{'' if count == 1 else 's'}"
            for count, noun in (
                (self.objects, "object"),
                (self.older, "older version"),
                (self.markers, "delete marker"),
                (self.uploads, "unfinished upload"),
            )
            if count
        ]
        return (
            ("more than " if self.more else "")
            + (" and ".join(parts) or "nothing")
            + (f" (first: {self.first})" if self.first else "")
        )


def contents(client: S3Client, bucket: str) -> Contents:
    """What the bucket holds. Old versions and unfinished uploads count: they are data too, and
    some stores delete a bucket with nothing but these in it without a word."""
    objects = older = markers = uploads = 0
    first = ""
    for kind, entry in islice(_entries(client, bucket), _MANY):
        first = first or entry["Key"]
        if kind == "Versions":
            latest = entry.get("IsLatest", True)
            objects, older = objects + latest, older + (not latest)
        elif kind == "DeleteMarkers":
            markers += 1
        else:
            uploads += 1
    more = objects + older + markers + uploads >= _MANY
    return Contents(objects, older, markers, uploads, first, more)


def empty(
    client: S3Client, bucket: str, log: Callable[..., None], cancelled: threading.Event
) -> None:
    """Delete every object, version and marker, and abort every upload, unless `cancelled`."""
    gone = 0
    before: list[tuple[str, str, str]] = []
    # Always the first entries anew: a listing that goes on while its entries go may skip some.
    while entries := list(islice(_entries(client, bucket), _BATCH)):
        if cancelled.is_set():
            raise ResourceError(
                f"interrupted while bucket {bucket} was being emptied: {gone} objects and versions "
                "are gone, the rest is untouched; run it again to finish"
            )
        now = [(kind, entry["Key"], entry.get("VersionId", "")) for kind, entry in entries]
        if now == before:
            raise ResourceError(
                f"bucket {bucket} still holds what was deleted (first: {now[0][1]}): see the "
                "store's log"
            )
        before = now
        for kind, entry in entries:
            if kind == "Uploads":
                client.abort_multipart_upload(
                    Bucket=bucket, Key=entry["Key"], UploadId=entry["UploadId"]
                )
        if versions := [(key, version) for kind, key, version in now if kind != "Uploads"]:
            _delete(client, bucket, versions)
            gone += len(versions)
            log(f"bucket {bucket}: {gone} objects and versions deleted", status=True)


def _delete(client: S3Client, bucket: str, versions: list[tuple[str, str]]) -> None:
    what: Any = [
        {"Key": key, **({"VersionId": version} if version else {})} for key, version in versions
    ]
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": what, "Quiet": True})
    if errors := answer.get("Errors"):
        first = errors[0]
        raise ResourceError(
            f"bucket {bucket}: {len(errors)} objects could not be deleted (first: "
            f"{first.get('Key')}: {first.get('Message') or first.get('Code')}): remove what "
            "holds them (an object lock, a policy) and run it again"
        )


def _entries(client: S3Client, bucket: str) -> Iterator[tuple[str, Any]]:
    """Every version, delete marker and unfinished upload, page by page."""
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for version in page.get("Versions", []):
            yield "Versions", version
        for marker in page.get("DeleteMarkers", []):
            yield "DeleteMarkers", marker
    for uploads in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for upload in uploads.get("Uploads", []):
            yield "Uploads", upload
