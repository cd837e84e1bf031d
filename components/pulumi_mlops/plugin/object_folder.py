"""`mlops:s3:ObjectFolder`: objects below a key prefix, which programs of the stack write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..runtime.s3.client import S3Endpoint
from .errors import ResourceError
from .handler import Context, Handler
from .s3_inputs import StoreInputs
from .values import OrUnknown

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class ObjectFolderInputs(StoreInputs):
    """Inputs of `mlops:s3:ObjectFolder`."""

    uri: OrUnknown[str] = Field(description="`s3://bucket/prefix`. The prefix is not empty.")


class ObjectFolderHandler(Handler[ObjectFolderInputs]):
    """Deletes the objects with the resource. Creating it writes nothing."""

    token = "mlops:s3:ObjectFolder"
    description = "Objects below a key prefix of a bucket, deleted with the resource."
    inputs = ObjectFolderInputs
    secret_inputs = frozenset({"secretAccessKey"})
    replace_on = frozenset({"uri"})
    ignore_in_diff = frozenset({"endpointUrl", "region", "accessKeyId", "secretAccessKey"})

    def check(self, ctx: Context, new: ObjectFolderInputs) -> list[tuple[str, str]]:
        if isinstance(new.uri, str) and not all(_location(new.uri)):
            return [("uri", "must be s3://bucket/prefix")]
        return []

    def create(self, ctx: Context, new: ObjectFolderInputs) -> tuple[str, dict[str, Any]]:
        return str(new.uri), {}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: ObjectFolderInputs
    ) -> dict[str, Any]:
        return {}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """Delete the objects. A store that does not answer or refuses is only a warning."""
        bucket, prefix = _location(resource_id)
        endpoint = S3Endpoint.of_state(old, ctx.reach)
        try:
            client = endpoint.client()
            with endpoint.errors(bucket, "delete objects of"):
                _delete_objects(client, bucket, f"{prefix}/")
        except ResourceError as error:
            ctx.log(f"{resource_id} is not deleted: {error}", level="warning")


def _delete_objects(client: S3Client, bucket: str, prefix: str) -> None:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        keys: Any = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
        if keys:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})


def _location(uri: str) -> tuple[str, str]:
    """The bucket and the prefix of `s3://bucket/prefix`; empty texts for another URI."""
    scheme, _, rest = uri.partition("://")
    bucket, _, prefix = rest.partition("/")
    return (bucket, prefix.strip("/")) if scheme == "s3" else ("", "")
