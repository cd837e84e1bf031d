"""Requests of the port with the same implementation, a resource of the plugin, for every target."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import cast

import pulumi

from ..plugin import sdk
from . import databases
from .port import (
    BucketHandle,
    BucketSpec,
    ClientSettingsHandle,
    DatabaseHandle,
    DatabaseSpec,
    ModelVersionHandle,
    ModelVersionSpec,
    Target,
)


class SharedRequests:
    """A mixin for adapters: the requests of the port that every target may answer alike.

    An adapter inherits it and overrides what it answers in another way.
    """

    def database(
        self: Target, name: str, spec: DatabaseSpec, opts: pulumi.ResourceOptions
    ) -> DatabaseHandle:
        """Provision a database with the volumes, secrets and services of the target."""
        return databases.database(self, name, spec, opts)

    def bucket(self, name: str, spec: BucketSpec, opts: pulumi.ResourceOptions) -> BucketHandle:
        """Provision a bucket with the S3 API."""
        return bucket(name, spec, opts)

    def model_version(
        self, name: str, spec: ModelVersionSpec, opts: pulumi.ResourceOptions
    ) -> ModelVersionHandle:
        """Look up a model version in the model registry."""
        return model_version(name, spec, opts)

    def client_settings(
        self, name: str, env: pulumi.Output[Mapping[str, str]], opts: pulumi.ResourceOptions
    ) -> ClientSettingsHandle:
        """Write the client settings file to the stack folder."""
        return client_settings(name, env, opts)


def bucket(name: str, spec: BucketSpec, opts: pulumi.ResourceOptions) -> BucketHandle:
    """Provision a bucket with the S3 API."""
    native = sdk.Bucket(
        name,
        {
            "bucket": spec.bucket,
            "endpointUrl": spec.endpoint_url,
            "region": spec.region,
            "accessKeyId": spec.access_key_id,
            "secretAccessKey": spec.secret_access_key,
            "versioning": spec.versioning,
            "lifecycle": cast("sdk.BucketLifecycleArgs | None", spec.lifecycle),
            "encryption": spec.encryption,
            "tags": dict(spec.tags) or None,
            "forceDestroy": not spec.retain,
            "publicAccessBlock": spec.public_access_block,
        },
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(retain_on_delete=spec.retain)),
    )
    return BucketHandle(uri=native.uri, native=native)


def model_version(
    name: str, spec: ModelVersionSpec, opts: pulumi.ResourceOptions
) -> ModelVersionHandle:
    """Look up a model version in the model registry. The update fails if it does not exist."""
    native = sdk.ModelVersion(
        name,
        {
            "trackingUri": spec.tracking_uri,
            "username": spec.username,
            "password": spec.password,
            "model": spec.model,
            "version": spec.version,
            "after": spec.after,
            "readRequirements": spec.read_requirements or None,
        },
        opts,
    )
    return ModelVersionHandle(
        example=native.example,
        source=native.source,
        ready=native,
        requirements=native.requirements if spec.read_requirements else None,
        python=native.python if spec.read_requirements else None,
    )


def client_settings(
    name: str, env: pulumi.Output[Mapping[str, str]], opts: pulumi.ResourceOptions
) -> ClientSettingsHandle:
    """Write the client settings file to the stack folder, on the machine that runs the update."""
    native = sdk.File(name, {"fileName": "client.env", "content": env.apply(_shell_exports)}, opts)
    return ClientSettingsHandle(path=native.path, native=native)


def _shell_exports(env: Mapping[str, str]) -> str:
    lines = ["# Written by pulumi-mlops. Source this file to use the platform."]
    lines += [f"export {key}={shlex.quote(value)}" for key, value in sorted(env.items())]
    return "\n".join(lines) + "\n"
