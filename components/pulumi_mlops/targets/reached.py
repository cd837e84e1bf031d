"""What the plugin makes and looks up in servers that it reaches, whatever target they are of."""

from __future__ import annotations

import pulumi

from .. import resources
from . import Bucket, BucketSpec, ModelVersion, ModelVersionSpec


def bucket(name: str, spec: BucketSpec, opts: pulumi.ResourceOptions) -> Bucket:
    """A bucket over the S3 API."""
    native = resources.Bucket(
        name,
        {
            "bucket": spec.bucket,
            "endpointUrl": spec.endpoint_url,
            "region": spec.region,
            "accessKeyId": spec.access_key_id,
            "secretAccessKey": spec.secret_access_key,
            "versioning": spec.versioning,
            "lifecycle": None if spec.lifecycle is None else dict(spec.lifecycle),
            "encryption": spec.encryption,
            "tags": dict(spec.tags) or None,
            "forceDestroy": not spec.retain,
            "publicAccessBlock": spec.public_access_block,
        },
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(retain_on_delete=spec.retain)),
    )
    return Bucket(uri=native.output("uri"), native=native)


def model_version(name: str, spec: ModelVersionSpec, opts: pulumi.ResourceOptions) -> ModelVersion:
    """A version over the registry's API; one that is not there fails the update."""
    native = resources.ModelVersion(
        name,
        {
            "trackingUri": spec.tracking_uri,
            "username": spec.username,
            "password": spec.password,
            "model": spec.model,
            "version": spec.version,
            "after": spec.after,
        },
        opts,
    )
    return ModelVersion(example=native.output("example"), ready=native)
