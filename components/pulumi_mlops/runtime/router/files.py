"""The files of a proxy: HAProxy's configuration, its map of checks, and the stored route.

HAProxy starts from them, so they always describe what it should have after a restart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .haproxy import CHECKS_FILE, ProxyServer, ProxySettings, render_checks, render_config

CONFIG_FILE = "haproxy.cfg"
ROUTE_FILE = "route.json"


def replace_file(path: Path, text: str) -> None:
    """Replace `path` in one step."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)


@dataclass(frozen=True)
class StoredRoute:
    """The content of ROUTE_FILE."""

    settings: ProxySettings
    servers: list[ProxyServer]
    table: Mapping[str, Any] | None
    """The accepted traffic table of a route's pod; None on the local target."""


class ProxyFiles:
    """The files of one proxy in its folder. `write` replaces one file."""

    def __init__(
        self,
        folder: Path,
        write: Callable[[Path, str], None] = replace_file,
        *,
        listen: str | None = None,
    ) -> None:
        self.folder, self._write, self._listen = folder, write, listen

    @property
    def exist(self) -> bool:
        """Whether there is a configuration."""
        return (self.folder / CONFIG_FILE).exists()

    def load(self) -> StoredRoute | None:
        """The stored route; None if it or the configuration does not exist or is not complete."""
        try:
            stored = json.loads((self.folder / ROUTE_FILE).read_text())
        except (FileNotFoundError, ValueError):
            return None
        if not self.exist:
            return None
        servers = [ProxyServer(**server) for server in stored["servers"]]
        return StoredRoute(ProxySettings(**stored["settings"]), servers, stored.get("table"))

    def save(
        self,
        settings: ProxySettings,
        servers: Iterable[ProxyServer],
        table: Mapping[str, Any] | None = None,
    ) -> None:
        """Replace the files that change, in an order that lets HAProxy start after each."""
        servers = list(servers)
        previous = self.load()
        # The configuration is written after the map and must find the checks of both.
        known = {server.name: server for server in (previous.servers if previous else ())}
        known |= {server.name: server for server in servers}
        route = {
            "settings": asdict(settings),
            "servers": [asdict(server) for server in servers],
            **({} if table is None else {"table": table}),
        }
        for name, text in (
            (CHECKS_FILE, render_checks(known.values())),
            (CONFIG_FILE, render_config(settings, servers, self._listen)),
            (ROUTE_FILE, json.dumps(route, indent=1)),
        ):
            path = self.folder / name
            if not path.exists() or path.read_text() != text:
                self._write(path, text)
