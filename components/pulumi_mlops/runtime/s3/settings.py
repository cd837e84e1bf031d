"""The settings of a bucket: reading and writing each of them."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pulumi_mlops.runtime.errors import ResourceError
from pulumi_mlops.runtime.s3.client import S3Endpoint, code_of, is_unsupported

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OWNER_TAG = "mlops:urn"
"""Tag: the resource that owns the bucket. A later stack with this resource adopts retained data."""
CLAIM_TAG = "mlops:claim"
"""Tag: the creation of that resource. The delete of an earlier one leaves its successor alone."""
_RESERVED = frozenset({OWNER_TAG, CLAIM_TAG})
_BLOCK = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
_CLEANUP, _EXPIRE = "mlops-cleanup", "mlops-expire"
_PROBE = ".mlops/encryption-probe"


@dataclass(frozen=True)
class BucketSettings:
    """The settings of a bucket. `unsupported` names the settings that the store does not have."""

    versioning: bool = False
    lifecycle: dict[str, Any] | None = None
    encryption: str | None = None
    public_access_block: bool | None = None
    tags: dict[str, str] | None = None
    owner: str | None = None
    claim: str | None = None
    unsupported: tuple[str, ...] = ()


def new_claim() -> str:
    """A random text that identifies one creation of a bucket."""
    return secrets.token_hex(8)


def owner_of(urn: str) -> str:
    """The URN as a tag value. S3 allows 256 letters, digits and + - = . _ : / @."""
    allowed = set(string.ascii_letters + string.digits + "+-=._:/@")
    return "".join(char if char in allowed else "/" for char in urn)[-256:]


def read_settings(client: S3Client, bucket: str) -> BucketSettings:
    """The current settings."""
    unsupported: list[str] = []

    def ask(name: str, call: Callable[..., Any], *absent: str) -> Any:
        try:
            return call(Bucket=bucket)
        except client.exceptions.ClientError as error:
            if code_of(error) in absent:
                return {}
            if is_unsupported(error):
                unsupported.append(name)
                return None
            raise

    versioning = ask("versioning", client.get_bucket_versioning) or {}
    lifecycle = ask(
        "lifecycle",
        client.get_bucket_lifecycle_configuration,
        "NoSuchLifecycleConfiguration",
    )
    encryption = ask(
        "encryption",
        client.get_bucket_encryption,
        "ServerSideEncryptionConfigurationNotFoundError",
    )
    block = ask(
        "publicAccessBlock",
        client.get_public_access_block,
        "NoSuchPublicAccessBlockConfiguration",
    )
    tagging = ask("tags", client.get_bucket_tagging, "NoSuchTagSet")
    tags = {tag["Key"]: tag["Value"] for tag in (tagging or {}).get("TagSet", [])}
    return BucketSettings(
        versioning=versioning.get("Status") == "Enabled",
        lifecycle=_lifecycle_of((lifecycle or {}).get("Rules", [])),
        encryption=_algorithm_of(encryption or {}),
        public_access_block=None
        if block is None
        else block.get("PublicAccessBlockConfiguration", {}) == _BLOCK,
        tags=None
        if tagging is None
        else {
            key: value
            for key, value in tags.items()
            if key not in _RESERVED and not key.startswith("aws:")
        },
        owner=tags.get(OWNER_TAG),
        claim=tags.get(CLAIM_TAG),
        unsupported=tuple(unsupported),
    )


def write_settings(
    log: Callable[..., None],
    client: S3Client,
    endpoint: S3Endpoint,
    bucket: str,
    wanted: BucketSettings,
) -> list[str]:
    """Apply `wanted`, changing only what differs. Returns the settings the store does not have.

    Raises ResourceError for an explicit setting that the store does not have. Default of
    `public_access_block`: on where the store has it; a log line where it does not.
    """
    now = read_settings(client, bucket)
    asked = {
        "versioning": wanted.versioning,
        "lifecycle": wanted.lifecycle is not None,
        "encryption": wanted.encryption is not None,
        "publicAccessBlock": bool(wanted.public_access_block),
        "tags": bool(wanted.tags),
    }
    for name in now.unsupported:
        if asked[name]:
            raise ResourceError(
                f"{endpoint} has no {_NAMES[name]} (input {name}): leave {name} out, or use a "
                "store that has it"
            )
    _write_tags(client, bucket, wanted, now)
    if wanted.versioning != now.versioning:
        status: Any = "Enabled" if wanted.versioning else "Suspended"
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
    if wanted.lifecycle != now.lifecycle:
        if wanted.lifecycle is None:
            client.delete_bucket_lifecycle(Bucket=bucket)
        else:
            rules: Any = _rules_of(wanted.lifecycle)
            client.put_bucket_lifecycle_configuration(
                Bucket=bucket, LifecycleConfiguration={"Rules": rules}
            )
    _write_encryption(client, endpoint, bucket, wanted.encryption, now.encryption)
    if now.public_access_block is None:
        if wanted.public_access_block is None:
            log(
                f"{endpoint} has no public access block: its users and policies decide who reads "
                f"{bucket} (publicAccessBlock: false removes this message)",
                level="warning",
            )
    elif wanted.public_access_block is False:
        if now.public_access_block:
            client.delete_public_access_block(Bucket=bucket)
    elif not now.public_access_block:
        block: Any = _BLOCK
        client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block)
    return sorted(now.unsupported)


_NAMES = {
    "versioning": "versioning",
    "lifecycle": "lifecycle rules",
    "encryption": "default encryption",
    "publicAccessBlock": "public access block",
    "tags": "bucket tags",
}


def _write_tags(client: S3Client, bucket: str, wanted: BucketSettings, now: BucketSettings) -> None:
    if now.tags is None:
        return
    before = (now.tags, now.owner, now.claim)
    if before == (wanted.tags or {}, wanted.owner, wanted.claim):
        return
    marks = {OWNER_TAG: wanted.owner or "", CLAIM_TAG: wanted.claim or ""}
    tags = {**(wanted.tags or {}), **marks}
    client.put_bucket_tagging(
        Bucket=bucket,
        Tagging={"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]},
    )


def _write_encryption(
    client: S3Client, endpoint: S3Endpoint, bucket: str, wanted: str | None, now: str | None
) -> None:
    if wanted == now:
        return
    if wanted is None:
        client.delete_bucket_encryption(Bucket=bucket)
        return
    if endpoint.url is not None:
        _probe_encryption(client, endpoint, bucket, wanted)
    rule: Any = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": wanted}}
    client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})


def _probe_encryption(client: S3Client, endpoint: S3Endpoint, bucket: str, wanted: str) -> None:
    """Some stores accept the setting without a key, and then refuse every object."""
    algorithm: Any = wanted
    try:
        put = client.put_object(Bucket=bucket, Key=_PROBE, Body=b"", ServerSideEncryption=algorithm)
    except client.exceptions.ClientError as error:
        raise ResourceError(
            f"{endpoint} stores no object under encryption {wanted} ({code_of(error)}; input "
            "encryption): give the store its key, or leave encryption out"
        ) from None
    version: Any = {"VersionId": put["VersionId"]} if put.get("VersionId") else {}
    client.delete_object(Bucket=bucket, Key=_PROBE, **version)


def _algorithm_of(answer: Mapping[str, Any]) -> str | None:
    for rule in answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", []):
        return str(rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm"))
    return None


def _rules_of(lifecycle: Mapping[str, Any]) -> list[dict[str, Any]]:
    cleanup: dict[str, Any] = {}
    if days := lifecycle.get("expireNoncurrentDays"):
        cleanup["NoncurrentVersionExpiration"] = {"NoncurrentDays": int(days)}
    if days := lifecycle.get("abortIncompleteUploadDays"):
        cleanup["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": int(days)}
    rules = [{"ID": _CLEANUP, "Status": "Enabled", "Filter": {"Prefix": ""}, **cleanup}]
    if not cleanup:
        rules = []
    if days := lifecycle.get("expireDays"):
        where = {"Prefix": lifecycle.get("prefix") or ""}
        expire = {"Expiration": {"Days": int(days)}}
        rules.append({"ID": _EXPIRE, "Status": "Enabled", "Filter": where, **expire})
    return rules


def _lifecycle_of(rules: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The input that the rules come from; other rules by name, so that a diff shows them."""
    if not rules:
        return None
    found: dict[str, Any] = {}
    for rule in rules:
        if rule.get("ID") == _CLEANUP:
            if days := rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays"):
                found["expireNoncurrentDays"] = days
            if days := rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation"):
                found["abortIncompleteUploadDays"] = days
        elif rule.get("ID") == _EXPIRE:
            found["expireDays"] = rule.get("Expiration", {}).get("Days")
            found["prefix"] = rule.get("Filter", {}).get("Prefix") or rule.get("Prefix") or ""
    known = sorted(_rules_of(found), key=lambda rule: str(rule["ID"]))
    if [_plain(rule) for rule in sorted(rules, key=_id)] != [_plain(rule) for rule in known]:
        found["otherRules"] = sorted(_id(rule) for rule in rules)
    return found


def _id(rule: Mapping[str, Any]) -> str:
    return str(rule.get("ID", ""))


def _plain(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule in a normal form: stores return the prefix in different places."""
    prefix = rule.get("Filter", {}).get("Prefix") or rule.get("Prefix") or ""
    return {key: value for key, value in rule.items() if key not in {"Filter", "Prefix"}} | {
        "Filter": {"Prefix": prefix}
        if not (rule.get("Filter", {}).keys() - {"Prefix"})
        else rule["Filter"]
    }
