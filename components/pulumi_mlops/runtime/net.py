"""Checks of URLs and TCP ports."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_loopback(url: str | None) -> bool:
    """Whether the host of `url` is this machine. Such requests must not use a web proxy."""
    host = urlsplit(url or "").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def direct_loopback(env: Mapping[str, str]) -> dict[str, str]:
    """The variables to set so that no client sends requests for this machine to a web proxy.

    Empty if `env` has no proxy. gRPC and curl read only the variables in lower case; where both
    exist, most clients prefer those. gRPC reads `no_grpc_proxy` instead of `no_proxy` if it is set.
    """
    if not any(name.lower().endswith("_proxy") and env[name] for name in env):
        return {}
    names = ["no_proxy", "NO_PROXY"]
    names += ["no_grpc_proxy"] if "no_grpc_proxy" in env else []
    return {name: _with_loopback(env.get(name) or _excluded(env)) for name in names}


def _excluded(env: Mapping[str, str]) -> str:
    return env.get("no_proxy") or env.get("NO_PROXY") or ""


def _with_loopback(excluded: str) -> str:
    hosts = [host.strip() for host in excluded.split(",") if host.strip()]
    return ",".join([*hosts, *(host for host in _LOOPBACK if host not in hosts)])


def is_http(url: str) -> bool:
    """Whether `url` is an http or https URL with a host and without a user."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None


def is_free(port: int) -> bool:
    """Whether no program listens on this TCP port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
