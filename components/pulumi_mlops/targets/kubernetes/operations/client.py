"""The variables that clients of a platform on a cluster need, with its addresses made local."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterable, Mapping

from ....cli.selection import Stack
from ..api.client import ClusterApi
from .inventory import component, take

_OURS = re.compile(r"(MLFLOW_TRACKING_|MLFLOW_S3_|AWS_)")
_SECRET = re.compile(r"SECRET|PASSWORD|TOKEN|ACCESS_KEY|USERNAME")
_SUFFIX = r"(\.cluster\.local)?"


def variables(api: ClusterApi, stack: Stack) -> dict[str, str]:
    """What `pulumi up` left here as client settings; where it was run elsewhere, what the cluster
    gives its jobs, which are clients too."""
    file = stack.files / "files" / "client.env"
    if file.exists():
        return sourced(file.read_text())
    found = take(api, stack, ("ConfigMap", "Secret"))
    told: dict[str, str] = {}
    for each in found.of("ConfigMap", "Secret"):
        if component(each) == "job":
            told |= {
                key: value if each["kind"] == "ConfigMap" else base64.b64decode(value).decode()
                for key, value in (each.get("data") or {}).items()
                if _OURS.match(key)
            }
    return told


def sourced(text: str) -> dict[str, str]:
    """The variables that a shell would have from lines such as `export NAME='value'`."""
    words = shlex.split(text, comments=True)
    pairs = (word.partition("=") for word in words if "=" in word)
    return {key: value for key, _, value in pairs}


def exports(found: Mapping[str, str]) -> list[str]:
    """Lines for a shell."""
    return [f"export {key}={shlex.quote(found[key])}" for key in sorted(found)]


def without_secrets(found: Mapping[str, str]) -> dict[str, str]:
    """Those that everybody may see."""
    return {key: value for key, value in found.items() if not _SECRET.search(key)}


def made_local(text: str, addresses: Mapping[str, str]) -> str:
    """`text` with each address of the cluster (`service.namespace.svc:port`) that has a tunnel
    replaced by the tunnel's."""
    for inside, outside in addresses.items():
        host, _, port = inside.rpartition(":")
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}{_SUFFIX}:{port}(?!\d)", outside, text)
    return text


def all_local(found: Mapping[str, str], addresses: Mapping[str, str]) -> dict[str, str]:
    """The same variables, for this machine."""
    return {key: made_local(value, addresses) for key, value in found.items()}


def command(words: Iterable[str], addresses: Mapping[str, str]) -> list[str]:
    """The same command, for this machine."""
    return [made_local(word, addresses) for word in words]
