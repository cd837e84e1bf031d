"""The inputs of `mlops:s3:Bucket`, and their validation."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal

from pydantic import Field

from ..runtime.net import is_http
from .handler import Inputs
from .values import OrUnknown


class LifecycleInputs(Inputs):
    """Lifecycle rules of the bucket: what the store deletes automatically."""

    expire_noncurrent_days: int | None = Field(
        None,
        ge=1,
        description="Days after which an overwritten or deleted version of an object is deleted. "
        "Default: never.",
    )
    abort_incomplete_upload_days: int | None = Field(
        None,
        ge=1,
        description="Days after which an unfinished multipart upload is deleted. Default: never.",
    )
    expire_days: int | None = Field(
        None,
        ge=1,
        description="Days after which the objects that begin with `prefix` are deleted. Requires "
        "`prefix`. Default: never.",
    )
    prefix: str | None = Field(
        None,
        description="Key prefix of the objects that `expireDays` applies to, such as `tmp/`. An "
        "empty text stands for all objects. Default: `expireDays` is not used.",
    )


class StoreInputs(Inputs):
    """The inputs that locate an S3-compatible store, of every resource in one."""

    endpoint_url: OrUnknown[str | None] = Field(
        None, description="URL of the store, such as `http://127.0.0.1:8333`. Default: AWS."
    )
    region: OrUnknown[str] = Field("us-east-1", description="Region of the store.")
    access_key_id: OrUnknown[str | None] = Field(
        None, description="Access key. Default: boto3's credential chain."
    )
    secret_access_key: OrUnknown[str | None] = Field(
        None, description="Secret of the access key. Default: boto3's credential chain."
    )


class BucketInputs(StoreInputs):
    """Inputs of `mlops:s3:Bucket`."""

    bucket: OrUnknown[str] = Field(description="Name of the bucket, 3 to 63 characters.")
    versioning: OrUnknown[bool] = Field(
        False, description="Keep overwritten and deleted objects as noncurrent versions."
    )
    lifecycle: OrUnknown[LifecycleInputs | None] = Field(
        None,
        description="What the store deletes automatically. Other lifecycle rules of the bucket are "
        "removed. Default: no rules.",
    )
    encryption: OrUnknown[Literal["AES256", "aws:kms"] | None] = Field(
        None,
        description="Encryption of new objects at rest. Default: the store's default.",
    )
    tags: OrUnknown[dict[str, str]] = Field(
        default_factory=dict, description="All tags of the bucket, at most 48."
    )
    public_access_block: OrUnknown[bool | None] = Field(
        None,
        description="Block public policies and ACLs. With `true`, a store without this feature is "
        "an error. Default: block where the store can, with a warning where it cannot.",
    )
    force_destroy: OrUnknown[bool] = Field(
        False,
        description="Delete all objects and versions when the bucket is deleted. Otherwise the "
        "deletion of a bucket with objects fails.",
    )


def broken_rules(new: BucketInputs) -> list[tuple[str, str]]:
    """The problems of the inputs whose values are known, as (input, problem and fix)."""
    problems = []
    if isinstance(new.bucket, str):
        problems += [("bucket", rule) for rule in broken_name_rules(new.bucket)]
    if isinstance(new.endpoint_url, str) and not is_http(new.endpoint_url):
        problems.append(("endpointUrl", "must be http://host:port or https://host"))
    if (new.access_key_id is None) != (new.secret_access_key is None):
        missing = "accessKeyId" if new.access_key_id is None else "secretAccessKey"
        problems.append(
            (missing, "accessKeyId and secretAccessKey are required together: set both, or neither")
        )
    if isinstance(new.lifecycle, LifecycleInputs):
        problems += [("lifecycle", rule) for rule in broken_lifecycle_rules(new.lifecycle)]
    if isinstance(new.tags, dict):
        problems += [("tags", rule) for rule in broken_tag_rules(new.tags)]
    return problems


def broken_name_rules(name: str) -> list[str]:
    """The problems of a bucket name. Source: AWS S3 user guide, bucket naming rules."""
    rules = [
        (3 <= len(name) <= 63, f"must have 3 to 63 characters, not {len(name)}"),
        (re.fullmatch(r"[a-z0-9.-]*", name), "may contain only a-z, 0-9, '.' and '-'"),
        (re.fullmatch(r"[a-z0-9](.*[a-z0-9])?", name), "must begin and end with a-z or 0-9"),
        (".." not in name, "must not have two dots in a row"),
        (not _is_address(name), "must not have the form of an IP address"),
        (
            not name.startswith(("xn--", "sthree-", "amzn-s3-demo-"))
            and not name.endswith(("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")),
            "must not begin with xn--, sthree- or amzn-s3-demo-, nor end with -s3alias, --ol-s3, "
            ".mrap, --x-s3 or --table-s3: AWS reserves these",
        ),
    ]
    return [f"bucket name {name!r} {rule}" for valid, rule in rules if not valid]


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def broken_lifecycle_rules(lifecycle: LifecycleInputs) -> list[str]:
    """The problems of the combination of lifecycle inputs."""
    rules = []
    if lifecycle.expire_days is not None and lifecycle.prefix is None:
        rules.append(
            "expireDays requires prefix, such as tmp/. An empty prefix stands for all objects"
        )
    if lifecycle.prefix is not None and lifecycle.expire_days is None:
        rules.append("prefix requires expireDays: set it, or remove prefix")
    if not lifecycle.model_dump(exclude_none=True):
        rules.append(
            "is empty: set expireNoncurrentDays, abortIncompleteUploadDays or expireDays with "
            "prefix, or remove lifecycle"
        )
    return rules


def broken_tag_rules(tags: dict[str, str]) -> list[str]:
    """The problems of tags: S3's limits, and the two tags that this resource adds."""
    rules = []
    if len(tags) > 48:
        rules.append(
            f"must be at most 48, not {len(tags)}: S3 allows 50, and this resource adds two"
        )
    for key, value in tags.items():
        if key.startswith(("aws:", "mlops:")):
            rules.append(
                f"key {key!r}: the prefixes aws: and mlops: are reserved, choose another one"
            )
        if not 1 <= len(key) <= 128:
            rules.append(f"key {key[:20]!r} must have 1 to 128 characters, not {len(key)}")
        if len(value) > 256:
            rules.append(f"the value of {key!r} must have at most 256 characters, not {len(value)}")
    return rules
