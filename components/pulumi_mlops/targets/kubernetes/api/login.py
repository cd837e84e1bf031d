"""A login of kr8s that leaves no private key on the disk.

Python's ssl reads a client's key from files alone, so kr8s writes what a kubeconfig holds into
files. It keeps them for ever, and the plugin logs in at every preview and update.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from pathlib import Path
from typing import Any

from kr8s._auth import KubeAuth

_FILES = {
    "client-key": "client_key_file",
    "client-certificate": "client_cert_file",
    "certificate-authority": "server_ca_file",
}


class Login(KubeAuth):
    """Its files are gone as soon as ssl has read them, or could not."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        # Requests begin together, and each may be the one that finds the login to have run out.
        self._one_at_a_time = asyncio.Lock()
        self._read: Any = None

    async def reauthenticate(self) -> None:
        """Read the kubeconfig, and run what it says for a login."""
        async with self._one_at_a_time:
            try:
                await super().reauthenticate()
                self._read = await super().ssl_context()  # type: ignore[no-untyped-call]
            finally:
                self._forget()

    async def ssl_context(self) -> Any:
        """For new connections, as the last login has it."""
        if self._read is None:
            await self.reauthenticate()
        return self._read

    def _forget(self) -> None:
        """Delete what was written out of the kubeconfig. The files that it names are the user's."""
        found = {**self._user, **self._cluster}
        for entry, attribute in _FILES.items():
            file = getattr(self, attribute)
            setattr(self, attribute, None)
            theirs = found.get(entry) and Path(found[entry]).name
            if file and f"{entry}-data" in found and Path(file).name != theirs:
                # What cannot be deleted is no reason to have no cluster.
                with contextlib.suppress(OSError):
                    Path(file).unlink(missing_ok=True)


def use() -> None:
    """Let kr8s log in this way. It has no setting for it: that its Api still takes the class from
    there is what test_kubernetes_api.py finds out with each new version."""
    module: Any = importlib.import_module("kr8s._api")
    module.KubeAuth = Login
