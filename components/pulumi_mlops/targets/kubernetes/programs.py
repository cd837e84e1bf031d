"""What a pod's program is given: variables, Secrets and volumes, and no secret in the open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from ..port import ServiceSpec
from . import manifests, names
from .handles import member


def beside(name: str, kind: str) -> str:
    """The object of a workload that has its `secrets`, `files` or `env`."""
    return f"{names.label(name, 55)}-{kind}"


def volumes_of(
    name: str, spec: ServiceSpec
) -> tuple[list[manifests.Manifest], list[manifests.Manifest]]:
    """The pod's volumes of its data and its private files, and where the container has them."""
    volumes: list[manifests.Manifest] = []
    mounts: list[manifests.Manifest] = []
    if spec.data is not None:
        metadata: pulumi.Output[Any] = pulumi.get(spec.data.native, "metadata")
        claim = metadata.apply(lambda found: member(found, "name"))
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "data", "mountPath": manifests.DATA_DIR})
    if spec.files:
        secret = beside(name, "files")
        volumes.append({"name": "files", "secret": {"secretName": secret, "defaultMode": 0o440}})
        mounts.append({"name": "files", "mountPath": manifests.FILES_DIR, "readOnly": True})
    return volumes, mounts


def surroundings(
    spec: ServiceSpec, numbers: Mapping[str, int], address: str
) -> list[manifests.Manifest]:
    """What the service is told of where it is, as far as it wants to know."""
    found = manifests.service_variables(numbers, spec.data is not None, bool(spec.files))
    if any("$(HOST_NAMES)" in value for value in spec.env.values() if isinstance(value, str)):
        found.append({"name": "HOST_NAMES", "value": _host_names(address)})
    return found


def _host_names(address: str) -> str:
    """What clients may call it by: each name alone and with a port."""
    name, namespace, _ = address.split(".")
    hosts: Sequence[str] = (
        name, f"{name}.{namespace}", address, f"{address}.cluster.local", "localhost", "127.0.0.1",
    )  # fmt: skip
    return ",".join(text for host in hosts for text in (host, f"{host}:*"))


def refuse_secrets(name: str, env: Mapping[str, pulumi.Input[str]]) -> dict[str, pulumi.Input[str]]:
    """The same variables, none of which may be a secret: a manifest is no place for one."""

    return {
        key: _open(value, f"{name}: the variable {key} is a secret: give it in `secrets`")
        for key, value in env.items()
    }


def refuse_secret_words(name: str, command: Sequence[pulumi.Input[str]]) -> list[pulumi.Input[str]]:
    """The same command, no word of which may be a secret."""
    return [
        _open(word, f"{name}: a word of its command is a secret, which all may read: hand it over "
              "in an environment variable, by `secrets`")
        for word in command
    ]  # fmt: skip


def _open(value: pulumi.Input[str], refusal: str) -> pulumi.Input[str]:
    """`value`; raises pulumi.RunError with this text when it turns out to be a secret."""
    if not isinstance(value, pulumi.Output):
        return value

    async def checked() -> str:
        if await value.is_secret():
            raise pulumi.RunError(refusal)
        return ""

    # An Output of both: the value, its dependencies, and the check.
    return pulumi.Output.concat(value, checked())
