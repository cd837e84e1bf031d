"""The resources of the plugin for the local target, as Python classes."""

from __future__ import annotations

from ...plugin.sdk import MlopsResource


class Environment(MlopsResource):
    """A virtual environment and a snapshot of code."""

    _token = "mlops:local:Environment"
    _outputs = ("path", "codePath", "status")


class Process(MlopsResource):
    """A supervised program."""

    _token = "mlops:local:Process"
    _outputs = ("url", "addresses", "status", "logs")


class Run(MlopsResource):
    """A run to completion."""

    _token = "mlops:local:Run"
    _outputs = ("outputs", "log")


class Route(MlopsResource):
    """A reverse proxy over weighted services."""

    _token = "mlops:local:Route"
    _outputs = ("url", "metricsUrl", "status")


class Secret(MlopsResource):
    """A generated secret."""

    _token = "mlops:local:Secret"
    _outputs = ("value", "status")


class Volume(MlopsResource):
    """A folder of data."""

    _token = "mlops:local:Volume"
    _outputs = ("path",)
