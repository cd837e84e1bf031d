"""Where an S3 store is, how it is asked, and what its refusals mean for a user."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pulumi_mlops.runtime.errors import ResourceError, UnreachableError
from pulumi_mlops.runtime.s3.connection import connect, endpoint_of_environment

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError
    from mypy_boto3_s3 import S3Client


class DeniedError(ResourceError):
    """The endpoint answers, and refuses these credentials."""


@dataclass(frozen=True)
class S3Endpoint:
    """An S3 service and the credentials for it."""

    url: str | None
    """None is AWS."""
    region: str
    key: str | None
    secret: str | None = field(repr=False)
    reach: Callable[[str], str] = field(default=str, repr=False, compare=False)
    """From the address to one that this machine reaches it by."""

    @classmethod
    def of_environment(cls, reach: Callable[[str], str]) -> S3Endpoint:
        """Where the AWS tools would look: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, AWS_REGION and
        the default chain of credentials. For an import, which comes with no inputs."""
        env = os.environ
        region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"
        return cls(endpoint_of_environment(env), region, None, None, reach)

    @classmethod
    def of_state(cls, state: dict[str, Any], reach: Callable[[str], str]) -> S3Endpoint:
        """Where the recorded state says that the bucket is."""
        return cls(
            state.get("endpointUrl"),
            state.get("region") or "us-east-1",
            state.get("accessKeyId"),
            state.get("secretAccessKey"),
            reach,
        )

    def __str__(self) -> str:
        return self.url or f"AWS S3 in {self.region}"

    def client(self, *, quick: bool = False) -> S3Client:
        """A client with bounded time-outs and retries; `quick` is for looks that may fail."""
        return connect(
            self.reach(self.url) if self.url else None,
            region=self.region,
            key=self.key,
            secret=self.secret,
            connect_timeout=2 if quick else 5,
            read_timeout=5 if quick else 60,
            attempts=1 if quick else 3,
        )

    @contextmanager
    def errors(self, bucket: str, doing: str) -> Iterator[None]:
        """Turn what boto3 raises inside into a ResourceError that says what to do."""
        from botocore import exceptions as boto  # noqa: PLC0415

        try:
            yield
        except boto.ClientError as error:
            raise self._refusal(error, bucket, doing) from None
        except (boto.NoCredentialsError, boto.PartialCredentialsError):
            raise DeniedError(
                f"no credentials for {self}: give accessKeyId and secretAccessKey, or set up the "
                "AWS default chain (AWS_PROFILE, AWS_ACCESS_KEY_ID, a role)"
            ) from None
        except (boto.ConnectionError, boto.HTTPClientError) as error:
            raise UnreachableError(
                f"no S3 service answers at {self} ({_cause(error)}): start it, or correct "
                "endpointUrl"
            ) from None
        except boto.BotoCoreError as error:
            raise ResourceError(f"cannot {doing} bucket {bucket} at {self}: {error}") from None

    def _refusal(self, error: ClientError, bucket: str, doing: str) -> ResourceError:
        code, status = code_of(error), status_of(error)
        if told := {
            "InvalidAccessKeyId": "knows no such access key (input accessKeyId): give one of its "
            "keys",
            "SignatureDoesNotMatch": "finds that the secret does not belong to the access key "
            "(input secretAccessKey): give the one that was issued with accessKeyId",
            "ExpiredToken": "says that the credentials have expired: renew them",
        }.get(code):
            return DeniedError(f"{self} {told}")
        home = error.response["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region")
        if told := {
            "BucketAlreadyExists": f"has a bucket {bucket} of another owner (input bucket): choose "
            "another name; all users share one space of names",
            "OperationAborted": f"is still busy with an earlier create or delete of bucket "
            f"{bucket}: run it again in a few minutes",
            "IllegalLocationConstraintException": f"is not for region {self.region} (input region)"
            ": give the region of the endpoint",
            "301": f"does not have bucket {bucket} in region {self.region} (input region): it is "
            f"in {home or 'another one'}",
        }.get("301" if status == 301 or code == "AuthorizationHeaderMalformed" else code):
            return ResourceError(f"{self} {told}")
        if status in {401, 403}:
            return DeniedError(
                f"the credentials may not {doing} bucket {bucket} at {self} ({code}): grant them "
                "the right, or give others (inputs accessKeyId, secretAccessKey); a bucket of that "
                "name may also belong to somebody else (input bucket)"
            )
        reason = error.response["Error"].get("Message") or "no reason given"
        return ResourceError(f"{self} refused to {doing} bucket {bucket}: {reason} ({code})")


def code_of(error: ClientError) -> str:
    """The S3 error code, such as NoSuchBucket; for a HEAD the HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    """The HTTP status of the refusal."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_unsupported(error: ClientError) -> bool:
    """Whether the store says that it does not have this operation at all."""
    return status_of(error) in {405, 501} or code_of(error) in {
        "NotImplemented",
        "MethodNotAllowed",
        "UnsupportedOperation",
    }


def exists(client: S3Client, bucket: str) -> bool:
    """Whether the bucket is there and these credentials may see it."""
    try:
        client.head_bucket(Bucket=bucket)
    except client.exceptions.ClientError as error:
        if status_of(error) == 404:
            return False
        if status_of(error) != 403:
            raise
        # The answer to a HEAD has no body and so no reason; this one has.
        try:
            client.get_bucket_location(Bucket=bucket)
        except client.exceptions.ClientError as reason:
            if code_of(reason) == "NoSuchBucket":
                return False
            raise
    return True


def _cause(error: BotoCoreError) -> str:
    """The reason without the address, which has been told, and without a request's query."""
    text = f"{error} {error.kwargs.get('error')}"
    for known in (
        "Connection refused",
        "Name or service not known",
        "No route to host",
        "timed out",
        "Network is unreachable",
        "certificate verify failed",
    ):
        if known.lower() in text.lower():
            return known.lower()
    return {
        "EndpointConnectionError": "could not connect",
        "ConnectTimeoutError": "timed out",
        "ReadTimeoutError": "it took too long",
        "ConnectionClosedError": "it closed the connection",
    }.get(type(error).__name__, type(error).__name__)
