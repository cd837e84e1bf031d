"""`mlops:s3:Bucket`: a bucket of AWS S3 or of another S3-compatible store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ..runtime.s3.bucket import Owner, make, take_over
from ..runtime.s3.client import DeniedError, S3Endpoint, code_of, exists
from ..runtime.s3.contents import contents, empty
from ..runtime.s3.settings import BucketSettings, new_claim, owner_of, read_settings, write_settings
from .errors import GoneError, ResourceError, UnreachableError
from .handler import Context, Handler, OutputField
from .s3_inputs import BucketInputs, broken_rules
from .values import Unknown, has_unknown

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class BucketHandler(Handler[BucketInputs]):
    """Manages buckets with boto3."""

    token = "mlops:s3:Bucket"
    description = (
        "A bucket of an S3 store (AWS, SeaweedFS, MinIO, Ceph, moto). To import a bucket, use its "
        "name as the id. An import uses AWS_ENDPOINT_URL and boto3's credential chain."
    )
    inputs = BucketInputs
    secret_inputs = frozenset({"secretAccessKey"})
    outputs: ClassVar[dict[str, OutputField]] = {
        "uri": OutputField(str, "`s3://<bucket>`."),
        "arn": OutputField(str, "Amazon Resource Name of the bucket."),
        "claim": OutputField(
            str, "Marker in the bucket's tags that identifies this resource.", state_only=True
        ),
        "unsupported": OutputField(
            list[str], "Settings that the store does not support.", state_only=True
        ),
    }
    # A changed address may lead to the same store, so it must not replace the bucket.
    replace_on = frozenset({"bucket"})

    def check(self, ctx: Context, new: BucketInputs) -> list[tuple[str, str]]:
        return broken_rules(new)

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        endpoint = S3Endpoint.of_state(state, ctx.reach)
        try:
            with endpoint.errors(resource_id, "look at"):
                if exists(endpoint.client(quick=True), resource_id):
                    return {}
        except ResourceError:
            return {}  # operations that need the store report the error
        return {"uri": f"gone (no bucket {resource_id} at {endpoint})"}

    def preview(
        self, ctx: Context, new: BucketInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        if isinstance(new.bucket, Unknown):
            return {}
        known: dict[str, Any] = {"uri": f"s3://{new.bucket}", "arn": _arn(new.bucket, new.region)}
        if old is not None:
            known["claim"] = old.get("claim", "")
            if old.get("endpointUrl") == new.endpoint_url:
                known["unsupported"] = old.get("unsupported", [])
        connection = [new.endpoint_url, new.region, new.access_key_id, new.secret_access_key]
        if has_unknown(connection):
            return known
        endpoint = _endpoint(ctx, new)
        try:
            with endpoint.errors(new.bucket, "look at"):
                client = endpoint.client(quick=True)
                if exists(client, new.bucket) and old is None:
                    take_over(client, endpoint, new.bucket, _owner(ctx, new.bucket))
        except UnreachableError as error:
            ctx.log(f"not checked at preview: {error}", level="warning")
        except DeniedError as error:
            if endpoint.url is None:
                raise
            # The same update may add these credentials to the store.
            ctx.log(f"the update fails unless it changes the access: {error}", level="warning")
        return known

    def create(self, ctx: Context, new: BucketInputs) -> tuple[str, dict[str, Any]]:
        endpoint = _endpoint(ctx, new)
        client = endpoint.client()
        with endpoint.errors(new.bucket, "create"):
            created = make(client, endpoint, new.bucket, _owner(ctx, new.bucket))
        try:
            outputs = self._apply_settings(ctx, endpoint, client, new, new_claim())
        except BaseException:
            if created:
                self._undo(ctx, endpoint, client, new.bucket)
            raise
        return new.bucket, outputs

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        endpoint = (
            S3Endpoint.of_state(state, ctx.reach) if state else S3Endpoint.of_environment(ctx.reach)
        )
        try:
            client = endpoint.client()
            with endpoint.errors(resource_id, "read"):
                if not exists(client, resource_id):
                    return None
                settings = read_settings(client, resource_id)
        except GoneError:
            return None
        except UnreachableError as error:
            if not state:
                raise
            ctx.log(f"the recorded state is kept: {error}", level="warning")
            return {}
        changes = _drift(state, settings)
        if not state:
            changes |= {
                "bucket": resource_id,
                **({"endpointUrl": endpoint.url} if endpoint.url else {}),
                **({"region": endpoint.region} if endpoint.region != "us-east-1" else {}),
                "claim": settings.claim or "",
            }
        return {
            **changes,
            "uri": f"s3://{resource_id}",
            "arn": _arn(resource_id, endpoint.region),
            "unsupported": sorted(settings.unsupported),
        }

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: BucketInputs
    ) -> dict[str, Any]:
        endpoint = _endpoint(ctx, new)
        client = endpoint.client()
        claim = old.get("claim") or new_claim()
        with endpoint.errors(resource_id, "update"):
            moved = old.get("endpointUrl") != new.endpoint_url
            if not exists(client, resource_id):
                ctx.log(
                    f"no bucket {resource_id} at {endpoint}: a new, empty one is created",
                    level="warning",
                )
                make(client, endpoint, resource_id, _owner(ctx, resource_id))
            elif moved and read_settings(client, resource_id).claim != claim:
                take_over(client, endpoint, resource_id, _owner(ctx, resource_id))
        return self._apply_settings(ctx, endpoint, client, new, claim)

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        endpoint = S3Endpoint.of_state(old, ctx.reach)
        try:
            client = endpoint.client()
        except GoneError as error:
            ctx.log(f"bucket {resource_id} is gone with its store: {error}")
            return
        with endpoint.errors(resource_id, "delete"):
            if not exists(client, resource_id):
                return
            claim = read_settings(client, resource_id).claim
            if claim and old.get("claim") and claim != old["claim"]:
                ctx.log(f"bucket {resource_id} is not deleted: another resource owns it now")
                return
            content = contents(client, resource_id)
            if content and not old.get("forceDestroy"):
                raise ResourceError(
                    f"bucket {resource_id} at {endpoint} contains {content}: empty it, or set "
                    "forceDestroy: true and run `pulumi up` before it is deleted"
                )
            if content:
                empty(client, resource_id, ctx.log, ctx.cancelled)
            self._remove(client, resource_id)

    def _apply_settings(
        self, ctx: Context, endpoint: S3Endpoint, client: S3Client, new: BucketInputs, claim: str
    ) -> dict[str, Any]:
        with endpoint.errors(new.bucket, "change the settings of"):
            unsupported = write_settings(
                ctx.log,
                client,
                endpoint,
                new.bucket,
                _desired_settings(new, owner_of(ctx.urn), claim),
            )
        return {
            "uri": f"s3://{new.bucket}",
            "arn": _arn(new.bucket, new.region),
            "claim": claim,
            "unsupported": unsupported,
        }

    def _undo(self, ctx: Context, endpoint: S3Endpoint, client: S3Client, bucket: str) -> None:
        """Delete the bucket after a failed create. Its own error is only a warning."""
        try:
            with endpoint.errors(bucket, "delete the incomplete"):
                self._remove(client, bucket)
        except ResourceError as error:
            ctx.log(f"the bucket could not be deleted: {error}", level="warning")

    def _remove(self, client: S3Client, bucket: str) -> None:
        try:
            client.delete_bucket(Bucket=bucket)
        except client.exceptions.ClientError as error:
            if code_of(error) == "NoSuchBucket":
                return
            if code_of(error) == "BucketNotEmpty":
                raise ResourceError(
                    f"bucket {bucket} received objects while it was being deleted: stop the "
                    "programs that write to it, then update again"
                ) from None
            raise


def _endpoint(ctx: Context, new: BucketInputs) -> S3Endpoint:
    return S3Endpoint(
        new.endpoint_url, new.region, new.access_key_id, new.secret_access_key, ctx.reach
    )


def _owner(ctx: Context, bucket: str) -> Owner:
    imported = f"`pulumi import {BucketHandler.token} {ctx.name} {bucket}`"
    return Owner(ctx.urn, ctx.log, f", or take it over with {imported}")


def _desired_settings(new: BucketInputs, owner: str, claim: str) -> BucketSettings:
    lifecycle = new.lifecycle
    return BucketSettings(
        versioning=new.versioning,
        lifecycle=None
        if lifecycle is None
        else lifecycle.model_dump(by_alias=True, exclude_none=True),
        encryption=new.encryption,
        public_access_block=new.public_access_block,
        tags=new.tags,
        owner=owner,
        claim=claim,
    )


def _drift(state: dict[str, Any], current: BucketSettings) -> dict[str, Any]:
    """The inputs that differ from the recorded ones, without the store's default encryption."""
    changes: dict[str, Any] = {}
    if current.versioning != bool(state.get("versioning")):
        changes["versioning"] = current.versioning
    if current.lifecycle != state.get("lifecycle"):
        changes["lifecycle"] = current.lifecycle
    encryption = state.get("encryption")
    if current.encryption != encryption and (encryption or current.encryption != "AES256"):
        changes["encryption"] = current.encryption
    if current.tags is not None and current.tags != (state.get("tags") or {}):
        changes["tags"] = current.tags
    block = state.get("publicAccessBlock")
    if current.public_access_block is not None and current.public_access_block != (
        block is not False
    ):
        changes["publicAccessBlock"] = current.public_access_block
    return changes


def _arn(bucket: str, region: str | Unknown) -> str:
    region_name = region if isinstance(region, str) else ""
    partitions = {"cn": "aws-cn", "us-gov": "aws-us-gov"}
    known = (name for prefix, name in partitions.items() if region_name.startswith(f"{prefix}-"))
    return f"arn:{next(known, 'aws')}:s3:::{bucket}"
