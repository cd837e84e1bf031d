"""The cluster of a stack, for the resource plugin: one API client per namespace, and tunnels."""

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
    """The one cluster of a plugin, by namespace."""

    def __init__(self, settings: str | None = None) -> None:
        self.configure(settings)
        self._apis: dict[str, ClusterApi] = {}
        self._tunnels: dict[tuple[str, str, int], str] = {}
        self._making = threading.RLock()

    def configure(self, settings: str | None) -> None:
        """Take `mlops:kubernetes`, as JSON."""
        self.where = Where.of(settings)

    def reach(self, url: str) -> str:
        """`url`, or where an address within the cluster (`http://service.namespace.svc:port`) is
        reached from here: through a tunnel that the API server keeps."""
        parts = urlsplit(url)
        found = _SERVICE_HOST.fullmatch(parts.hostname or "")
        if found is None:
            return url
        with self._making:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            place = (found["namespace"], found["service"], port)
            if place not in self._tunnels:
                self._tunnels[place] = self.at(found["namespace"]).tunnel(found["service"], port)
            login, at, _ = parts.netloc.rpartition("@")
            return parts._replace(netloc=f"{login}{at}{self._tunnels[place]}").geturl()

    def at(self, namespace: str) -> ClusterApi:
        """Its API, for a namespace."""
        with self._making:
            if namespace not in self._apis:
                self._apis[namespace] = ClusterApi(replace(self.where, namespace=namespace))
            return self._apis[namespace]
