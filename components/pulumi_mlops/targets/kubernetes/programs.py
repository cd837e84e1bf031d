"""Environment variables and Secrets of workloads. A secret never appears in a pod's manifest."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence

import pulumi

from ..port import ServiceSpec
from . import manifests, names
from .cluster import fingerprint
from .delivery import Delivery


def companion_name(name: str, kind: str) -> str:
    """The name of the object with the `secrets`, `files` or `env` of a workload."""
    return f"{names.label(name, 55)}-{kind}"


def secret_objects(
    delivery: Delivery,
    name: str,
    *,
    secrets: Mapping[str, pulumi.Input[str]],
    files: Mapping[str, pulumi.Input[str]],
    labels: Mapping[str, str],
    opts: pulumi.ResourceOptions,
) -> tuple[list[pulumi.Resource], pulumi.Output[str] | None]:
    """Create the Secrets of a workload. Returns them and a digest of their content."""
    objects: list[pulumi.Resource] = []
    for kind, content in (("secrets", secrets), ("files", files)):
        if content:
            values = {key: _secret(value) for key, value in content.items()}
            object_name = companion_name(name, kind)
            objects.append(delivery.secret(f"{name}-{kind}", object_name, values, labels, opts))
    if not objects:
        return [], None
    key = (tuple(secrets.items()), tuple(files.items()))
    digests = delivery.cluster.content_digests
    if key not in digests:
        digests[key] = _content_digest(secrets, files)
    return objects, digests[key]


def _content_digest(
    secrets: Mapping[str, pulumi.Input[str]], files: Mapping[str, pulumi.Input[str]]
) -> pulumi.Output[str]:
    salt = f"{pulumi.get_project()}/{pulumi.get_stack()}"
    content = pulumi.Output.json_dumps({"env": dict(secrets), "files": dict(files)})
    return pulumi.Output.unsecret(content.apply(lambda text: fingerprint(text, salt)))


# Endpoints share their secrets and most of their variables: one Output serves all of them.
_secrets: weakref.WeakKeyDictionary[pulumi.Output[str], pulumi.Output[str]]
_secrets = weakref.WeakKeyDictionary()
_checked: weakref.WeakKeyDictionary[pulumi.Output[str], pulumi.Output[str]]
_checked = weakref.WeakKeyDictionary()


def _secret(value: pulumi.Input[str]) -> pulumi.Output[str]:
    """`value` as a secret."""
    if not isinstance(value, pulumi.Output):
        return pulumi.Output.secret(value)
    if value not in _secrets:
        _secrets[value] = pulumi.Output.secret(value)
    return _secrets[value]


def service_environment(
    spec: ServiceSpec, numbers: Mapping[str, int], address: str
) -> list[manifests.Manifest]:
    """The variables that the target sets for a service."""
    variables = manifests.base_environment(numbers, spec.data is not None, bool(spec.files))
    if spec.fetched is not None:
        variables.append({"name": "FETCHED_DIR", "value": manifests.FETCHED_DIR})
    if spec.routed:
        # It ends with the pod, not with the container.
        variables.append({"name": "SPOOL_DIR", "value": f"{manifests.SCRATCH_DIR}/spool"})
    if any("$(HOST_NAMES)" in value for value in spec.env.values() if isinstance(value, str)):
        variables.append({"name": "HOST_NAMES", "value": _host_names(address)})
    return variables


def _host_names(address: str) -> str:
    """The host names of a service for its clients, each without a port and with any port."""
    name, namespace, _ = address.split(".")
    hosts: Sequence[str] = (
        name, f"{name}.{namespace}", address, f"{address}.cluster.local", "localhost", "127.0.0.1",
    )  # fmt: skip
    return ",".join(text for host in hosts for text in (host, f"{host}:*"))


def checked_env(name: str, env: Mapping[str, pulumi.Input[str]]) -> dict[str, pulumi.Input[str]]:
    """`env`. Raises pulumi.RunError if a value is a secret, since manifests are not private."""
    return {
        key: _not_secret(
            value, f"{name}: the environment variable {key} is a secret: pass it in `secrets`"
        )
        for key, value in env.items()
    }


def checked_command(name: str, command: Sequence[pulumi.Input[str]]) -> list[pulumi.Input[str]]:
    """`command`. Raises pulumi.RunError if an argument is a secret."""
    error = (
        f"{name}: an argument of its command is a secret, which would be visible in the manifest: "
        "pass it as an environment variable in `secrets`"
    )
    return [_not_secret(argument, error) for argument in command]


def _not_secret(value: pulumi.Input[str], error: str) -> pulumi.Input[str]:
    """`value`. Raises pulumi.RunError with the text `error` if it turns out to be a secret."""
    if not isinstance(value, pulumi.Output):
        return value

    async def check() -> str:
        if await value.is_secret():
            raise pulumi.RunError(error)
        return ""

    if value not in _checked:
        # One Output of the value, its dependencies and the check.
        _checked[value] = pulumi.Output.concat(value, check())
    return _checked[value]
