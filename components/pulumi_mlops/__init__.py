"""Reusable Pulumi components that provision a machine-learning platform.

The names below are imported when they are first used: what runs inside a workload imports
`pulumi_mlops.runtime` and pays for nothing of Pulumi.
"""

from __future__ import annotations

import gc
import sys
import typing
from importlib import import_module

if typing.TYPE_CHECKING:
    from .args import ArtifactStoreArgs as ArtifactStoreArgs
    from .args import MonitoringStackArgs as MonitoringStackArgs
    from .args import PipelineArgs as PipelineArgs
    from .args import ServingEndpointArgs as ServingEndpointArgs
    from .args import TrackingServerArgs as TrackingServerArgs
    from .args import TrainingRunnerArgs as TrainingRunnerArgs
    from .artifacts import ArtifactStore as ArtifactStore
    from .config import PlatformConfig as PlatformConfig
    from .monitoring import MonitoringStack as MonitoringStack
    from .platform import MlopsPlatform as MlopsPlatform
    from .serving import ServingEndpoint as ServingEndpoint
    from .tracking import TrackingServer as TrackingServer
    from .training import Pipeline as Pipeline
    from .training import TrainingRunner as TrainingRunner

_HOME = {
    "ArtifactStore": "artifacts",
    "ArtifactStoreArgs": "args",
    "PlatformConfig": "config",
    "MonitoringStack": "monitoring",
    "MonitoringStackArgs": "args",
    "MlopsPlatform": "platform",
    "ServingEndpoint": "serving",
    "ServingEndpointArgs": "args",
    "TrackingServer": "tracking",
    "TrackingServerArgs": "args",
    "Pipeline": "training",
    "PipelineArgs": "args",
    "TrainingRunner": "training",
    "TrainingRunnerArgs": "args",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> typing.Any:
    if name == "config":
        return _module(name)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_module(_HOME[name]), name)


def _module(name: str) -> typing.Any:
    if (loaded := sys.modules.get(f"{__name__}.{name}")) is not None:
        return loaded
    # Nothing of what loading makes is garbage, and the collector would look through all of it, and
    # of Pulumi's SDK, again and again: a twentieth of a preview. `freeze` leaves what is there now
    # out of its later rounds.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return import_module(f".{name}", __name__)
    finally:
        gc.freeze()
        if collecting:
            gc.enable()
