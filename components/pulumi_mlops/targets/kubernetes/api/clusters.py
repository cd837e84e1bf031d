"""The cluster of the resource plugin: one API client per namespace, and tunnels."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from urllib.parse import urlsplit

from .client import ClusterApi
from .location import Where

_SERVICE_HOST = re.compile(
    r"(?P<service>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)\.svc(\.cluster\.local)?"
)


class Clusters:
    """API clients of one cluster by namespace."""

    def __init__(self, settings: str | None = None) -> None:
        self.configure(settings)
        self._apis: dict[str, ClusterApi] = {}
        self._tunnels: dict[tuple[str, str, int], str] = {}
        self._lock = threading.RLock()

    def configure(self, settings: str | None) -> None:
        """Set the connection from `mlops:kubernetes` as JSON."""
        self.where = Where.of(settings)

    def reach(self, url: str) -> str:
        """A URL that this machine can connect to.

        For a Service of the cluster (`http://service.namespace.svc:port`) it is the address of a
        tunnel, otherwise `url`.
        """
        parts = urlsplit(url)
        match = _SERVICE_HOST.fullmatch(parts.hostname or "")
        if match is None:
            return url
        with self._lock:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            key = (match["namespace"], match["service"], port)
            if key not in self._tunnels:
                self._tunnels[key] = self.at(match["namespace"]).tunnel(match["service"], port)
            login, at, _ = parts.netloc.rpartition("@")
            return parts._replace(netloc=f"{login}{at}{self._tunnels[key]}").geturl()

    def at(self, namespace: str) -> ClusterApi:
        """The API client for a namespace."""
        with self._lock:
            if namespace not in self._apis:
                self._apis[namespace] = ClusterApi(replace(self.where, namespace=namespace))
            return self._apis[namespace]
