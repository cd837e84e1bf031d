"""Creates and configures a bucket: `python -m pulumi_mlops.runtime.s3 [--wait] SETTINGS`.

SETTINGS is JSON: bucket, endpointUrl, region, other inputs of `mlops:s3:Bucket`, and urn, which is
the owner of the bucket. Credentials come from boto3's default chain. The command is idempotent.
With --wait it only waits until the bucket exists.

It retries while the store does not answer or does not know the credentials yet.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from pulumi_mlops.runtime.errors import ResourceError, UnreachableError
from pulumi_mlops.runtime.s3.bucket import Owner, make
from pulumi_mlops.runtime.s3.client import DeniedError, S3Endpoint, exists
from pulumi_mlops.runtime.s3.settings import (
    BucketSettings,
    new_claim,
    owner_of,
    read_settings,
    write_settings,
)

_PAUSE = 2.0


def main(arguments: Sequence[str]) -> int:
    """Run the command; 1 with the reason if the bucket cannot be created or configured."""
    *options, text = arguments
    given = json.loads(text)
    endpoint = S3Endpoint(given["endpointUrl"], given.get("region") or "us-east-1", None, None)
    bucket = given["bucket"]
    try:
        if "--wait" in options:
            _until(lambda: _is_there(endpoint, bucket))
        else:
            _until(lambda: settle(endpoint, bucket, given))
    except ResourceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _tell(f"bucket {bucket} is there")
    return 0


def settle(endpoint: S3Endpoint, bucket: str, given: dict[str, Any]) -> None:
    """Create the bucket if it does not exist, and apply its settings."""
    client = endpoint.client()
    with endpoint.errors(bucket, "create"):
        make(client, endpoint, bucket, Owner(given["urn"], _tell))
    with endpoint.errors(bucket, "change the settings of"):
        wanted = BucketSettings(
            versioning=bool(given.get("versioning")),
            lifecycle=given.get("lifecycle"),
            encryption=given.get("encryption"),
            public_access_block=given.get("publicAccessBlock"),
            tags=given.get("tags") or {},
            owner=owner_of(given["urn"]),
            claim=read_settings(client, bucket).claim or new_claim(),
        )
        write_settings(_tell, client, endpoint, bucket, wanted)


def _is_there(endpoint: S3Endpoint, bucket: str) -> None:
    with endpoint.errors(bucket, "look at"):
        if not exists(endpoint.client(quick=True), bucket):
            raise UnreachableError(f"there is no bucket {bucket} at {endpoint} yet")


def _until(work: Callable[[], None]) -> None:
    told = ""
    while True:
        try:
            return work()
        except (UnreachableError, DeniedError) as error:
            if str(error) != told:
                _tell(told := str(error))
        time.sleep(_PAUSE)


def _tell(message: str, **_: object) -> None:
    print(message, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
