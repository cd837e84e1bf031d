"""Where the API server is and who asks: kubeconfig files."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


class KubeconfigError(Exception):
    """No cluster can be made out of the configuration."""


@dataclass(frozen=True)
class Connection:
    """A cluster, and how to prove oneself to it."""

    server: str
    namespace: str = "default"
    authority: str | None = None
    """The certificates of the server's authority, as PEM text."""
    insecure: bool = False
    certificate: bytes | None = None
    key: bytes | None = None
    token: str | None = None
    server_name: str | None = None


def load(given: Any, context: str | None = None, cluster: str | None = None) -> Connection:
    """The connection that `given` (a path, YAML text or a mapping) or the environment says."""
    config, folder = _config(given)
    name = context or config.get("current-context")
    chosen = _named(config, "contexts", name, "context")
    where = _named(config, "clusters", cluster or chosen.get("cluster"), "cluster")
    user = _named(config, "users", chosen["user"], "user") if chosen.get("user") else {}
    if "exec" in user or "auth-provider" in user:
        raise KubeconfigError(f"user {chosen['user']}: the stand-in runs no credential plugins")
    if not where.get("server"):
        raise KubeconfigError(f"cluster {cluster or chosen.get('cluster')} has no server")
    token = user.get("token")
    if token is None and "tokenFile" in user:
        token = (folder / user["tokenFile"]).read_text().strip()
    authority = _bytes(where, "certificate-authority", folder)
    return Connection(
        server=where["server"].rstrip("/"),
        namespace=chosen.get("namespace") or "default",
        authority=authority.decode() if authority else None,
        insecure=bool(where.get("insecure-skip-tls-verify")),
        certificate=_bytes(user, "client-certificate", folder),
        key=_bytes(user, "client-key", folder),
        token=token,
        server_name=where.get("tls-server-name"),
    )


def cluster_entry(given: Any, context: str | None, cluster: str | None) -> Any:
    """The whole cluster entry that a provider's `kubeconfig` property selects.

    None without a kubeconfig: the official plugin does not look into the environment's for this.
    """
    if not given:
        return None
    config, _ = _config(given)
    chosen = _find(config, "contexts", context or config.get("current-context"), "context")
    return _find(config, "clusters", cluster or chosen.get("cluster"), "cluster")


def _config(given: Any) -> tuple[Mapping[str, Any], Path]:
    if isinstance(given, Mapping):
        return given, Path()
    if isinstance(given, str) and given.strip():
        # A path has no line breaks and no colon-space, which every kubeconfig has.
        if "\n" not in given and ": " not in given and not given.lstrip().startswith("{"):
            return _file(Path(given).expanduser())
        return _parsed(given, "the given kubeconfig"), Path()
    listed = os.environ.get("KUBECONFIG", "") or str(Path.home() / ".kube" / "config")
    for each in listed.split(os.pathsep):
        if each and Path(each).expanduser().is_file():
            return _file(Path(each).expanduser())
    raise KubeconfigError(f"there is no kubeconfig file: {listed}")


def _file(path: Path) -> tuple[Mapping[str, Any], Path]:
    try:
        return _parsed(path.read_text(), str(path)), path.parent
    except OSError as error:
        raise KubeconfigError(f"kubeconfig {path}: {error.strerror}") from None


def _parsed(text: str, where: str) -> Mapping[str, Any]:
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise KubeconfigError(f"{where} is not YAML: {error}") from None
    if not isinstance(config, Mapping):
        raise KubeconfigError(f"{where} is no kubeconfig")
    return config


def _named(config: Mapping[str, Any], kind: str, name: Any, inner: str) -> dict[str, Any]:
    if found := _find(config, kind, name, inner):
        return found
    raise KubeconfigError(f"the kubeconfig has no {inner} {name!r}")


def _find(config: Mapping[str, Any], kind: str, name: Any, inner: str) -> dict[str, Any]:
    for each in config.get(kind) or []:
        if each.get("name") == name:
            return dict(each.get(inner) or {})
    return {}


def _bytes(entry: Mapping[str, Any], key: str, folder: Path) -> bytes | None:
    if data := entry.get(f"{key}-data"):
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error:
            raise KubeconfigError(f"{key}-data is not base64") from None
    if path := entry.get(key):
        try:
            return (folder / Path(path).expanduser()).read_bytes()
        except OSError as error:
            raise KubeconfigError(f"{key} {path}: {error.strerror}") from None
    return None
