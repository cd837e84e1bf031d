"""Handlers of the Kubernetes target in the resource plugin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ....plugin.handler import Handler, ResourceSet
from ..api.clusters import Clusters
from .cluster_identity import RENDER_TO_CHANGED, ClusterIdentityHandler
from .existing_secret import ExistingSecretHandler
from .namespace_owner import NamespaceOwnerHandler
from .ready import ReadyHandler
from .stored_secret import StoredSecretHandler
from .volume_guard import VolumeGuardHandler


class KubernetesResources(ResourceSet):
    """The handlers that identify a cluster, own a namespace, read and store Secrets, and wait."""

    def __init__(self) -> None:
        self._clusters = Clusters()

    def handlers(self) -> list[Handler[Any]]:
        """One handler per resource type."""
        return [
            ClusterIdentityHandler(self._clusters),
            ExistingSecretHandler(self._clusters),
            NamespaceOwnerHandler(self._clusters),
            ReadyHandler(self._clusters),
            StoredSecretHandler(),
            VolumeGuardHandler(self._clusters),
        ]

    def check_config(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Refuse a change between objects on a cluster and rendered manifests.

        ClusterIdentity refuses it too, but state of earlier versions does not contain it.
        """
        old_renders, new_renders = _renders(old), _renders(new)
        if None in (old_renders, new_renders) or old_renders == new_renders:
            return []
        return [("kubernetes", RENDER_TO_CHANGED[bool(new_renders)])]

    def configure(self, config: Mapping[str, Any]) -> None:
        """Set the settings `mlops:kubernetes`."""
        if (settings := config.get("kubernetes")) is not None:
            self._clusters.configure(settings)

    def reach(self, url: str) -> str:
        """The URL of a tunnel through the API server, for an address within the cluster."""
        return self._clusters.reach(url)


def _renders(config: Mapping[str, Any]) -> bool | None:
    """Whether the stack renders its manifests. None if the target is another one."""
    if config.get("target") != "kubernetes":
        return None
    try:
        return json.loads(config.get("kubernetes", "{}")).get("render_to") is not None
    except (ValueError, TypeError, AttributeError):  # the program reports invalid settings
        return None
