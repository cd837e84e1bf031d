"""The environment variables for clients of a platform on a cluster, with local addresses."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterable, Mapping

from ....cli.selection import Stack
from ....files import parse_exports
from ..api.client import ClusterApi
from .inventory import component, list_objects

_CLIENT_VARIABLE = re.compile(r"(MLFLOW_TRACKING_|MLFLOW_S3_|AWS_)")
_SECRET = re.compile(r"SECRET|PASSWORD|TOKEN|ACCESS_KEY|USERNAME")
_SUFFIX = r"(\.cluster\.local)?"


def variables(api: ClusterApi, stack: Stack) -> dict[str, str]:
    """The environment variables for clients.

    They are read from the client settings that an update wrote on this machine. Without this file
    they are read from the ConfigMaps and Secrets of jobs, which have the same variables.
    """
    file = stack.files / "files" / "client.env"
    if file.exists():
        return parse_exports(file.read_text())
    inventory = list_objects(api, stack, ("ConfigMap", "Secret"))
    job_variables: dict[str, str] = {}
    for each in inventory.of("ConfigMap", "Secret"):
        if component(each) == "job":
            job_variables |= {
                key: value if each["kind"] == "ConfigMap" else base64.b64decode(value).decode()
                for key, value in (each.get("data") or {}).items()
                if _CLIENT_VARIABLE.match(key)
            }
    return job_variables


def export_lines(env: Mapping[str, str]) -> list[str]:
    """Shell commands that set the variables."""
    return [f"export {key}={shlex.quote(env[key])}" for key in sorted(env)]


def without_credentials(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that contain no credentials."""
    return {key: value for key, value in env.items() if not _SECRET.search(key)}


def replace_addresses(text: str, addresses: Mapping[str, str]) -> str:
    """Replace addresses of the cluster in `text` by local addresses.

    `addresses` maps `service.namespace.svc:port` to the local address of its tunnel.
    """
    for cluster_address, local_address in addresses.items():
        host, _, port = cluster_address.rpartition(":")
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}{_SUFFIX}:{port}(?!\d)", local_address, text)
    return text


def replace_in_variables(env: Mapping[str, str], addresses: Mapping[str, str]) -> dict[str, str]:
    """The variables with local addresses."""
    return {key: replace_addresses(value, addresses) for key, value in env.items()}


def command(words: Iterable[str], addresses: Mapping[str, str]) -> list[str]:
    """The command with local addresses."""
    return [replace_addresses(word, addresses) for word in words]
