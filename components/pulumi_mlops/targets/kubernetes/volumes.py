"""Volumes: PersistentVolumeClaims, and the mounts of data and private files in pods."""

from __future__ import annotations

from typing import Any

import pulumi

from ..port import ServiceSpec, VolumeHandle
from . import manifests
from .cluster import Cluster
from .handles import metadata_field
from .programs import companion_name


def volume(cluster: Cluster, name: str, retain: bool, opts: pulumi.ResourceOptions) -> VolumeHandle:
    """Create a PersistentVolumeClaim.

    With `retain` the engine refuses to delete or replace it, and a forced deletion keeps the data.
    """
    if retain:
        cluster.refuse_deletion(name)
    native = cluster.make(
        "PersistentVolumeClaim", name,
        pulumi.ResourceOptions.merge(
            opts,
            pulumi.ResourceOptions(
                protect=retain, retain_on_delete=retain, depends_on=cluster.guard_volume(name, opts)
            ),
        ),
        labels=cluster.labels(name, "data"),
        spec=manifests.volume_claim(cluster.settings.volume_size, cluster.settings.storage_class),
    )  # fmt: skip
    return VolumeHandle(
        path=pulumi.Output.from_input(manifests.DATA_DIR), retain=retain, native=native
    )


def volumes_and_mounts(
    name: str, spec: ServiceSpec
) -> tuple[list[manifests.Manifest], list[manifests.Manifest]]:
    """The pod's volumes for data and private files, and the mounts of its container."""
    volumes: list[manifests.Manifest] = []
    mounts: list[manifests.Manifest] = []
    if spec.data is not None:
        metadata: pulumi.Output[Any] = pulumi.get(spec.data.native, "metadata")
        claim = metadata.apply(lambda value: metadata_field(value, "name"))
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "data", "mountPath": manifests.DATA_DIR})
    if spec.fetched is not None:
        volumes.append({"name": "fetched", "emptyDir": {}})
        mounts.append({"name": "fetched", "mountPath": manifests.FETCHED_DIR, "readOnly": True})
    if spec.files:
        secret = companion_name(name, "files")
        volumes.append({"name": "files", "secret": {"secretName": secret, "defaultMode": 0o440}})
        mounts.append({"name": "files", "mountPath": manifests.FILES_DIR, "readOnly": True})
    return volumes, mounts
