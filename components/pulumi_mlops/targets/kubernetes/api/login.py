"""A login of kr8s that leaves no private key on the disk.

Python's ssl reads client keys only from files, so kr8s writes the keys of a kubeconfig into files.
It never deletes them, and the plugin logs in at every preview and update.
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
    """A login that deletes its files after ssl has read them, also after an error."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Concurrent requests may find at the same time that the login has expired.
        self._lock = asyncio.Lock()
        self._ssl_context: Any = None

    async def reauthenticate(self) -> None:
        """Read the kubeconfig and run its login command, if any."""
        async with self._lock:
            try:
                await super().reauthenticate()
                self._ssl_context = await super().ssl_context()  # type: ignore[no-untyped-call]
            finally:
                self._delete_files()

    async def ssl_context(self) -> Any:
        """The SSL context of the last login, for new connections."""
        if self._ssl_context is None:
            await self.reauthenticate()
        return self._ssl_context

    def _delete_files(self) -> None:
        """Delete the files that kr8s wrote. Files that the kubeconfig names belong to the user."""
        entries = {**self._user, **self._cluster}
        for entry, attribute in _FILES.items():
            file = getattr(self, attribute)
            setattr(self, attribute, None)
            user_file = entries.get(entry) and Path(entries[entry]).name
            if file and f"{entry}-data" in entries and Path(file).name != user_file:
                # A failed deletion must not fail the login.
                with contextlib.suppress(OSError):
                    Path(file).unlink(missing_ok=True)


def use() -> None:
    """Make kr8s use `Login`.

    kr8s has no setting for this. test_kubernetes_api.py checks that its Api class still reads the
    login class from this module.
    """
    module: Any = importlib.import_module("kr8s._api")
    module.KubeAuth = Login
