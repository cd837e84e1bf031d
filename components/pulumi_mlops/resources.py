"""The plugin's resources as Python classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pulumi

Inputs = Mapping[str, Any]


class _Resource(pulumi.CustomResource):
    """A resource of the `mlops` plugin; inputs and outputs have the plugin's own names."""

    _token: ClassVar[str]
    _outputs: ClassVar[Sequence[str]] = ()

    def __init__(
        self, name: str, props: Inputs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        given = {key: value for key, value in props.items() if value is not None}
        super().__init__(self._token, name, {**given, **dict.fromkeys(self._outputs)}, opts)

    def output(self, name: str) -> pulumi.Output[Any]:
        """The output called `name`, as the plugin's schema has it."""
        found: pulumi.Output[Any] = pulumi.get(self, name)
        return found


class Bucket(_Resource):
    """A bucket of any S3-compatible store."""

    _token = "mlops:s3:Bucket"
    _outputs = ("uri", "arn")


class ModelVersion(_Resource):
    """A registered model version, which must exist."""

    _token = "mlops:mlflow:ModelVersion"
    _outputs = ("source", "runId", "example")


class GeneratedSecret(_Resource):
    """A generated secret that is kept in the state alone."""

    _token = "mlops:index:GeneratedSecret"
    _outputs = ("value",)


class Image(_Resource):
    """An image that its registry has, built and pushed where it had not."""

    _token = "mlops:index:Image"


class ClusterIdentity(_Resource):
    """Which cluster a stack is on."""

    _token = "mlops:kubernetes:ClusterIdentity"
    _outputs = ("identifier", "facts")


class NamespaceOwner(_Resource):
    """Which stack a namespace of a cluster belongs to."""

    _token = "mlops:kubernetes:NamespaceOwner"
    _outputs = ("status",)


class VolumeGuard(_Resource):
    """Refuses an update that would replace a volume."""

    _token = "mlops:kubernetes:VolumeGuard"


class ExistingSecret(_Resource):
    """A value out of a Secret of a cluster that somebody else keeps."""

    _token = "mlops:kubernetes:ExistingSecret"
    _outputs = ("value",)


class StoredSecret(_Resource):
    """A Secret that is kept in the state alone, for somebody else to apply."""

    _token = "mlops:kubernetes:StoredSecret"


class Ready(_Resource):
    """A workload of a cluster, waited for."""

    _token = "mlops:kubernetes:Ready"
    _outputs = ("outputs", "status")


class Environment(_Resource):
    """A virtual environment and a snapshot of code."""

    _token = "mlops:local:Environment"
    _outputs = ("path", "codePath", "status")


class Process(_Resource):
    """A supervised program."""

    _token = "mlops:local:Process"
    _outputs = ("url", "addresses", "status", "logs")


class Run(_Resource):
    """A run to completion."""

    _token = "mlops:local:Run"
    _outputs = ("outputs", "log")


class Route(_Resource):
    """A reverse proxy over weighted services."""

    _token = "mlops:local:Route"
    _outputs = ("url", "metricsUrl", "status")


class Secret(_Resource):
    """A generated secret."""

    _token = "mlops:local:Secret"
    _outputs = ("value", "status")


class Volume(_Resource):
    """A folder of data."""

    _token = "mlops:local:Volume"
    _outputs = ("path",)


class File(_Resource):
    """A private file for people."""

    _token = "mlops:local:File"
    _outputs = ("path", "status")
