"""Handlers of the local target in the resource plugin."""

from __future__ import annotations

from typing import Any

from ....plugin.handler import Handler, ResourceSet
from .environment import EnvironmentHandler
from .fetched_files import FetchedFilesHandler
from .process import ProcessHandler
from .route import RouteHandler
from .run import RunHandler
from .secret import SecretHandler
from .volume import VolumeHandler


class LocalResources(ResourceSet):
    """Environments, fetched files, processes, routes, runs, secrets and volumes of this machine."""

    def handlers(self) -> list[Handler[Any]]:
        """One handler per resource type."""
        return [
            EnvironmentHandler(),
            FetchedFilesHandler(),
            ProcessHandler(),
            RouteHandler(),
            RunHandler(),
            SecretHandler(),
            VolumeHandler(),
        ]
