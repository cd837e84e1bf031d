"""The inputs of `mlops:s3:Bucket`, and the rules that they have to keep."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal

from pydantic import Field

from ..runtime.net import is_http
from .handler import Inputs
from .values import Known


class Lifecycle(Inputs):
    """What is deleted by itself after some days."""

    expire_noncurrent_days: int | None = Field(
        None, ge=1, description="Days after which an overwritten or deleted version goes."
    )
    abort_incomplete_upload_days: int | None = Field(
        None, ge=1, description="Days after which an upload that was never finished goes."
    )
    expire_days: int | None = Field(
        None, ge=1, description="Days after which the objects below `prefix` go. Needs `prefix`."
    )
    prefix: str | None = Field(
        None, description="Which objects `expireDays` is about, such as `tmp/`; `` is all of them."
    )


class BucketInputs(Inputs):
    """Inputs of `mlops:s3:Bucket`."""

    bucket: Known[str] = Field(description="The bucket's name, 3 to 63 characters. Replaces.")
    endpoint_url: Known[str | None] = Field(
        None, description="The store's address, such as http://127.0.0.1:8333. AWS unless told."
    )
    region: Known[str] = Field("us-east-1", description="The store's region.")
    access_key_id: Known[str | None] = Field(
        None, description="Access key; without it boto3's default chain is asked."
    )
    secret_access_key: Known[str | None] = Field(None, description="The access key's secret.")
    versioning: Known[bool] = Field(
        False, description="Keep what is overwritten or deleted as an older version."
    )
    lifecycle: Known[Lifecycle | None] = Field(
        None, description="What is deleted by itself. Rules that are not named here are removed."
    )
    encryption: Known[Literal["AES256", "aws:kms"] | None] = Field(
        None, description="Encryption of new objects at rest; the store's own default unless told."
    )
    tags: Known[dict[str, str]] = Field(
        default_factory=dict, description="The bucket's tags, all of them: 48 at most."
    )
    public_access_block: Known[bool | None] = Field(
        None,
        description="Refuse every public policy and ACL. Unless told, on where the store has it, "
        "with a warning where it does not; true makes that an error.",
    )
    force_destroy: Known[bool] = Field(
        False, description="Let a delete take all objects and their versions with the bucket."
    )


def broken_rules(new: BucketInputs) -> list[tuple[str, str]]:
    """What of the inputs cannot be, as far as it is known: (input, what is wrong and the fix)."""
    problems = []
    if isinstance(new.bucket, str):
        problems += [("bucket", rule) for rule in broken_name_rules(new.bucket)]
    if isinstance(new.endpoint_url, str) and not is_http(new.endpoint_url):
        problems.append(("endpointUrl", "has to be http://host:port or https://host"))
    if (new.access_key_id is None) != (new.secret_access_key is None):
        missing = "accessKeyId" if new.access_key_id is None else "secretAccessKey"
        problems.append((missing, "accessKeyId and secretAccessKey go together: give both"))
    if isinstance(new.lifecycle, Lifecycle):
        problems += [("lifecycle", rule) for rule in broken_lifecycle_rules(new.lifecycle)]
    if isinstance(new.tags, dict):
        problems += [("tags", rule) for rule in broken_tag_rules(new.tags)]
    return problems


def broken_name_rules(name: str) -> list[str]:
    """What S3's rules for general-purpose buckets find wrong (AWS S3 guide, bucket naming)."""
    rules = [
        (3 <= len(name) <= 63, f"has to have 3 to 63 characters, not {len(name)}"),
        (re.fullmatch(r"[a-z0-9.-]*", name), "may have a-z, 0-9, '.' and '-' alone: no capitals"),
        (re.fullmatch(r"[a-z0-9](.*[a-z0-9])?", name), "has to begin and end with a-z or 0-9"),
        (".." not in name, "may not have two dots in a row"),
        (not _is_address(name), "may not look like an IP address"),
        (
            not name.startswith(("xn--", "sthree-", "amzn-s3-demo-"))
            and not name.endswith(("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")),
            "may not begin with xn--, sthree- or amzn-s3-demo-, nor end with -s3alias, --ol-s3, "
            ".mrap, --x-s3 or --table-s3: AWS keeps these for itself",
        ),
    ]
    return [f"bucket name {name!r} {told}" for kept, told in rules if not kept]


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def broken_lifecycle_rules(lifecycle: Lifecycle) -> list[str]:
    """What the combination of lifecycle inputs leaves open."""
    rules = []
    if lifecycle.expire_days is not None and lifecycle.prefix is None:
        rules.append("expireDays needs prefix: which objects go, such as tmp/ ('' is all of them)")
    if lifecycle.prefix is not None and lifecycle.expire_days is None:
        rules.append("prefix is about expireDays, which is missing: give it, or leave prefix out")
    if not lifecycle.model_dump(exclude_none=True):
        rules.append(
            "says nothing: give expireNoncurrentDays, abortIncompleteUploadDays or expireDays with "
            "prefix, or leave lifecycle out"
        )
    return rules


def broken_tag_rules(tags: dict[str, str]) -> list[str]:
    """What S3's limits for tags, and our own two tags, do not let through."""
    rules = []
    if len(tags) > 48:
        rules.append(f"may be 48, not {len(tags)}: S3 takes 50, and two are this resource's own")
    for key, value in tags.items():
        if key.startswith(("aws:", "mlops:")):
            rules.append(f"key {key!r}: aws: and mlops: are reserved, choose another prefix")
        if not 1 <= len(key) <= 128:
            rules.append(f"key {key[:20]!r} has to have 1 to 128 characters, not {len(key)}")
        if len(value) > 256:
            rules.append(f"the value of {key!r} may have 256 characters, not {len(value)}")
    return rules
