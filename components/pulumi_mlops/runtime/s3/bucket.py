"""One bucket, made and taken over: by whoever asks, as often as asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pulumi_mlops.runtime.errors import ResourceError
from pulumi_mlops.runtime.s3.client import Endpoint, code_of, exists
from pulumi_mlops.runtime.s3.contents import contents
from pulumi_mlops.runtime.s3.settings import owner_of, read_settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Owner:
    """Whose the bucket is to be, and who is told of it."""

    urn: str
    log: Callable[..., None]
    way_out: str = ""
    """What else there is to do about a bucket that is somebody else's."""


def make(client: S3Client, endpoint: Endpoint, bucket: str, owner: Owner) -> bool:
    """Create the bucket, or take over what an interrupted create or a kept volume left;
    whether it was created."""
    # Asked before: AWS in us-east-1 creates a bucket that one has already without a word.
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


def take_over(client: S3Client, endpoint: Endpoint, bucket: str, owner: Owner) -> None:
    """Refuse a bucket that is somebody else's; tell that ours is taken over."""
    now, held = read_settings(client, bucket), contents(client, bucket)
    if now.owner == owner_of(owner.urn) or (now.owner is None and not held):
        owner.log(f"bucket {bucket} is at {endpoint} already and taken over; it holds {held}")
        return
    whose = f" and belongs to {now.owner}" if now.owner else f" and holds {held}"
    raise ResourceError(
        f"bucket {bucket} exists at {endpoint}{whose}: choose another name (input bucket)"
        f"{owner.way_out}"
    )
