"""Creates a bucket, or adopts one that the same stack created before. Idempotent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pulumi_mlops.runtime.errors import ResourceError
from pulumi_mlops.runtime.s3.client import S3Endpoint, code_of, exists
from pulumi_mlops.runtime.s3.contents import contents
from pulumi_mlops.runtime.s3.settings import owner_of, read_settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Owner:
    """The owner of the bucket, and where messages about it go."""

    urn: str
    log: Callable[..., None]
    way_out: str = ""
    """A further fix to name in the error about a bucket of another owner."""


def make(client: S3Client, endpoint: S3Endpoint, bucket: str, owner: Owner) -> bool:
    """Create the bucket, or adopt one that an interrupted create or a retained volume left.

    Returns whether the bucket was created.
    """
    # Check first: in us-east-1, creating an own bucket again is not an error.
    if not exists(client, bucket):
        place: Any = (
            {}
            if endpoint.region == "us-east-1"
            else {"CreateBucketConfiguration": {"LocationConstraint": endpoint.region}}
        )
        try:
            client.create_bucket(Bucket=bucket, **place)
        except client.exceptions.ClientError as error:
            if code_of(error) != "BucketAlreadyOwnedByYou":
                raise
        else:
            client.get_waiter("bucket_exists").wait(
                Bucket=bucket, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
            )
            return True
    take_over(client, endpoint, bucket, owner)
    return False


def take_over(client: S3Client, endpoint: S3Endpoint, bucket: str, owner: Owner) -> None:
    """Refuse a bucket of another owner; log that an own bucket is adopted."""
    now, held = read_settings(client, bucket), contents(client, bucket)
    if now.owner == owner_of(owner.urn) or (now.owner is None and not held):
        owner.log(f"bucket {bucket} already exists at {endpoint} and is adopted; it holds {held}")
        return
    whose = f" and belongs to {now.owner}" if now.owner else f" and holds {held}"
    raise ResourceError(
        f"bucket {bucket} exists at {endpoint}{whose}: choose another name (input bucket)"
        f"{owner.way_out}"
    )
