"""The resources of the plugin that every target shares, as Python classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pulumi

Inputs = Mapping[str, Any]


class MlopsResource(pulumi.CustomResource):
    """A resource of the `mlops` plugin; inputs and outputs have the plugin's own names."""

    _token: ClassVar[str]
    _outputs: ClassVar[Sequence[str]] = ()

    def __init__(
        self, name: str, props: Inputs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        set_inputs = {key: value for key, value in props.items() if value is not None}
        super().__init__(self._token, name, {**set_inputs, **dict.fromkeys(self._outputs)}, opts)

    def output(self, name: str) -> pulumi.Output[Any]:
        """The output called `name`, as the plugin's schema has it."""
        value: pulumi.Output[Any] = pulumi.get(self, name)
        return value


class Bucket(MlopsResource):
    """A bucket of any S3-compatible store."""

    _token = "mlops:s3:Bucket"
    _outputs = ("uri", "arn")


class ModelVersion(MlopsResource):
    """A registered model version, which must exist."""

    _token = "mlops:mlflow:ModelVersion"
    _outputs = ("source", "runId", "example")


class GeneratedSecret(MlopsResource):
    """A generated secret that is kept in the state alone."""

    _token = "mlops:index:GeneratedSecret"
    _outputs = ("value",)


class Image(MlopsResource):
    """An image that its registry has, built and pushed where it had not."""

    _token = "mlops:index:Image"


class File(MlopsResource):
    """A private file for people."""

    _token = "mlops:local:File"
    _outputs = ("path", "status")
