"""Every resource type of the plugin."""

from __future__ import annotations

from typing import Any

from .generated_secret import GeneratedSecretHandler
from .handler import Handler
from .image import ImageHandler
from .kubernetes.existing_secret import ExistingSecretHandler
from .kubernetes.identity import ClusterIdentityHandler
from .kubernetes.owner import NamespaceOwnerHandler
from .kubernetes.ready import ReadyHandler
from .kubernetes.stored_secret import StoredSecretHandler
from .kubernetes.volume_guard import VolumeGuardHandler
from .local.environment import EnvironmentHandler
from .local.file import FileHandler
from .local.process import ProcessHandler
from .local.route import RouteHandler
from .local.run import RunHandler
from .local.secret import SecretHandler
from .local.volume import VolumeHandler
from .model_version import ModelVersionHandler
from .s3_bucket import BucketHandler


def handlers() -> list[Handler[Any]]:
    """One handler a type."""
    return [
        BucketHandler(),
        ModelVersionHandler(),
        ClusterIdentityHandler(),
        EnvironmentHandler(),
        ExistingSecretHandler(),
        FileHandler(),
        GeneratedSecretHandler(),
        ImageHandler(),
        NamespaceOwnerHandler(),
        ProcessHandler(),
        ReadyHandler(),
        RouteHandler(),
        RunHandler(),
        SecretHandler(),
        StoredSecretHandler(),
        VolumeGuardHandler(),
        VolumeHandler(),
    ]
