"""Fetched files: an init container of the service fills a volume of the pod.

A pod may start on another node at any time. The program therefore keeps a copy in a bucket, which
is deleted when no service has the files.
"""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from ..port import FetchedFilesHandle, FetchedFilesSpec, ServiceSpec
from . import manifests
from .delivery import Delivery
from .handles import image_reference
from .programs import checked_command, checked_env, companion_name


def fetched_files(
    delivery: Delivery, name: str, spec: FetchedFilesSpec, opts: pulumi.ResourceOptions
) -> FetchedFilesHandle:
    """The files, which are fetched when a pod of a service starts."""
    native = delivery.object_folder(f"{name}-copy", spec.copy, opts) if spec.copy else None
    return FetchedFilesHandle(path=manifests.FETCHED_DIR, native=native, spec=spec)


def secrets(
    delivery: Delivery,
    name: str,
    handle: FetchedFilesHandle,
    labels: Mapping[str, str],
    opts: pulumi.ResourceOptions,
) -> list[pulumi.Resource]:
    """What exists before the pods of the service `name`: the Secret of the init container, which
    no other container has, and the copy."""
    content = _secrets(handle.spec)
    needed: list[pulumi.Resource] = [] if handle.native is None else [handle.native]
    if content:
        values = {key: pulumi.Output.secret(value) for key, value in content.items()}
        object_name = companion_name(name, "fetch")
        needed.append(delivery.secret(f"{name}-fetch", object_name, values, labels, opts))
    return needed


def init_containers(name: str, spec: ServiceSpec) -> list[manifests.Manifest]:
    """The init container that fetches the files. Empty without fetched files."""
    if spec.fetched is None:
        return []
    fetched = spec.fetched.spec
    env = dict(fetched.env)
    if fetched.copy is not None:
        env |= {**fetched.copy.env, fetched.copy_variable: fetched.copy.uri}
    container = manifests.container(
        "fetch",
        image_reference(fetched.environment),
        checked_command(name, fetched.command),
        manifests.environment(
            checked_env(name, env),
            list(_secrets(fetched)),
            companion_name(name, "fetch"),
            [{"name": "FETCHED_DIR", "value": manifests.FETCHED_DIR}],
        ),
        mounts=[{"name": "fetched", "mountPath": manifests.FETCHED_DIR}],
        resources=manifests.resources(spec.resources),
    )
    return [container]


def _secrets(spec: FetchedFilesSpec) -> dict[str, pulumi.Input[str]]:
    return {**spec.secrets, **(spec.copy.secrets if spec.copy else {})}
