"""S3 clients, with every version of botocore since 1.29.

The model server and the fetch of model files use the boto3 that the model was trained with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from pulumi_mlops.runtime.net import is_loopback

if TYPE_CHECKING:
    from botocore.config import Config
    from botocore.loaders import Loader
    from mypy_boto3_s3 import S3Client

_NEWER_OPTIONS: dict[str, Any] = {
    # Stores other than AWS may not support the checksums that botocore 1.36 adds by default.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
    # The program alone decides the address. Before botocore 1.31 no other was read.
    "ignore_configured_endpoint_urls": True,
}
"""Options that botocore 1.29 does not have, and does not need."""


def endpoint_of_environment(env: Mapping[str, str] = os.environ) -> str | None:
    """AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, which botocore reads since 1.31. None is AWS."""
    return env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None


def connect(
    url: str | None,
    *,
    region: str | None = None,
    key: str | None = None,
    secret: str | None = None,
    connect_timeout: float = 5,
    read_timeout: float = 60,
    attempts: int = 3,
) -> S3Client:
    """Create a client of the store at `url`; None is AWS.

    Default of the region and the credentials: those of the AWS variables and files.
    """
    # botocore takes 0.3 s to import, and most updates touch no bucket.
    import botocore.session  # noqa: PLC0415

    # A session of its own, since one is not safe across threads. The description of the service is
    # read once.
    session = botocore.session.get_session()
    session.register_component("data_loader", _loader())
    return cast(
        "S3Client",
        session.create_client(
            "s3",
            endpoint_url=url,
            region_name=region,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=_config(
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
                retries={"mode": "standard", "total_max_attempts": attempts},
                signature_version="s3v4",
                # Stores other than AWS do not use bucket names as host names.
                s3={"addressing_style": "path" if url else "auto"},
                # A proxy is not needed for this machine.
                proxies={} if is_loopback(url) else None,
            ),
        ),
    )


def _config(**options: Any) -> Config:
    """The configuration of a client, with the newer options that this botocore has."""
    from botocore.config import Config  # noqa: PLC0415

    known: Mapping[str, Any] = Config.OPTION_DEFAULTS
    newer = {name: value for name, value in _NEWER_OPTIONS.items() if name in known}
    return Config(**options, **newer)


@cache
def _loader() -> Loader:
    from botocore.loaders import create_loader  # noqa: PLC0415

    return create_loader()
