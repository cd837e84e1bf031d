"""The resources of the target in the resource plugin, as Python classes."""

from __future__ import annotations

from pulumi_mlops.plugin.resource import MlopsResource


class Environment(MlopsResource):
    """A virtual environment and a copy of code."""

    _token = "mlops:toy:Environment"
    _outputs = ("path",)


class Process(MlopsResource):
    """A child process that keeps running."""

    _token = "mlops:toy:Process"
    _outputs = ("url", "addresses", "status")


class Run(MlopsResource):
    """A process that runs to completion."""

    _token = "mlops:toy:Run"
    _outputs = ("outputs",)


class Volume(MlopsResource):
    """A folder of data."""

    _token = "mlops:toy:Volume"
    _outputs = ("path",)
