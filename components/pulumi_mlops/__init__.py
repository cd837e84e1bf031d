"""Reusable Pulumi components that provision a machine-learning platform.

Each name is imported at its first use. Programs inside workloads import only
`pulumi_mlops.runtime`, and Pulumi is not loaded.
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
    from .args import QualityMonitorArgs as QualityMonitorArgs
    from .args import ServingEndpointArgs as ServingEndpointArgs
    from .args import TrackingServerArgs as TrackingServerArgs
    from .args import TrainingRunnerArgs as TrainingRunnerArgs
    from .artifacts import ArtifactStore as ArtifactStore
    from .config import PlatformConfig as PlatformConfig
    from .monitoring import MonitoringStack as MonitoringStack
    from .platform import MlopsPlatform as MlopsPlatform
    from .quality import QualityMonitor as QualityMonitor
    from .serving import ServingEndpoint as ServingEndpoint
    from .tracking import TrackingServer as TrackingServer
    from .training import Pipeline as Pipeline
    from .training import TrainingRunner as TrainingRunner

_MODULE_OF = {
    "ArtifactStore": "artifacts",
    "ArtifactStoreArgs": "args",
    "PlatformConfig": "config",
    "MonitoringStack": "monitoring",
    "MonitoringStackArgs": "args",
    "MlopsPlatform": "platform",
    "QualityMonitor": "quality",
    "QualityMonitorArgs": "args",
    "ServingEndpoint": "serving",
    "ServingEndpointArgs": "args",
    "TrackingServer": "tracking",
    "TrackingServerArgs": "args",
    "Pipeline": "training",
    "PipelineArgs": "args",
    "TrainingRunner": "training",
    "TrainingRunnerArgs": "args",
}
__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> typing.Any:
    if name == "config":
        return _module(name)
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_module(_MODULE_OF[name]), name)


def _module(name: str) -> typing.Any:
    if (loaded := sys.modules.get(f"{__name__}.{name}")) is not None:
        return loaded
    # Imports create no garbage, but the collector would examine all their objects repeatedly, which
    # takes a twentieth of the time of a preview. `freeze` excludes them from later collections.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return import_module(f".{name}", __name__)
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
