"""Fetched files: an init container of the service fills a volume of the pod.

A pod may start on another node at any time. The program therefore keeps a copy in a bucket, which
is deleted when no service has the files.
"""

from __future__ import annotations

import pulumi

from ..port import FetchedFilesHandle, FetchedFilesSpec, ServiceSpec
from . import manifests
from .delivery import Delivery
from .handles import image_reference
from .programs import checked_command, checked_env, companion_name

_PREFIX = "fetch."


def fetched_files(
    delivery: Delivery, name: str, spec: FetchedFilesSpec, opts: pulumi.ResourceOptions
) -> FetchedFilesHandle:
    """The files, which are fetched when a pod of a service starts."""
    native = delivery.object_folder(f"{name}-copy", spec.copy, opts) if spec.copy else None
    return FetchedFilesHandle(path=manifests.FETCHED_DIR, native=native, spec=spec)


def secret_keys(spec: ServiceSpec) -> dict[str, pulumi.Input[str]]:
    """The secrets of the init container, by their keys in the Secret of the service. No variable of
    another container refers to these keys."""
    if spec.fetched is None:
        return {}
    return {f"{_PREFIX}{key}": value for key, value in _secrets(spec.fetched.spec).items()}


def dependencies(spec: ServiceSpec) -> list[pulumi.Resource]:
    """What exists before the pods and is deleted after them: the copy."""
    return [] if spec.fetched is None or spec.fetched.native is None else [spec.fetched.native]


def init_containers(name: str, spec: ServiceSpec) -> list[manifests.Manifest]:
    """The init container that fetches the files. Empty without fetched files."""
    if spec.fetched is None:
        return []
    fetched = spec.fetched.spec
    env = dict(fetched.env)
    if fetched.copy is not None:
        env |= {**fetched.copy.env, fetched.copy_variable: fetched.copy.uri}
    variables = manifests.environment(
        checked_env(name, env), (), "", [{"name": "FETCHED_DIR", "value": manifests.FETCHED_DIR}]
    )
    secret = companion_name(name, "secrets")
    variables += [
        {
            "name": key,
            "valueFrom": {"secretKeyRef": {"name": secret, "key": f"{_PREFIX}{key}"}},
        }
        for key in sorted(_secrets(fetched))
    ]
    container = manifests.container(
        "fetch",
        image_reference(fetched.environment),
        checked_command(name, fetched.command),
        variables,
        mounts=[{"name": "fetched", "mountPath": manifests.FETCHED_DIR}],
        resources=manifests.resources(spec.resources),
    )
    return [container]


def _secrets(spec: FetchedFilesSpec) -> dict[str, pulumi.Input[str]]:
    return {**spec.secrets, **(spec.copy.secrets if spec.copy else {})}
