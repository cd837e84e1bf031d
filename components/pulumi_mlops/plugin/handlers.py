"""The resources that every target shares."""

from __future__ import annotations

from typing import Any

from .file import FileHandler
from .generated_secret import GeneratedSecretHandler
from .handler import Handler, ResourceSet
from .image import ImageHandler
from .model_version import ModelVersionHandler
from .object_folder import ObjectFolderHandler
from .s3_bucket import BucketHandler


class SharedResources(ResourceSet):
    """Buckets and their folders, model versions, images, generated secrets and files."""

    def handlers(self) -> list[Handler[Any]]:
        """One handler per resource type."""
        return [
            BucketHandler(),
            FileHandler(),
            GeneratedSecretHandler(),
            ImageHandler(),
            ModelVersionHandler(),
            ObjectFolderHandler(),
        ]
