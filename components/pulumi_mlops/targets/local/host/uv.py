"""The path of uv, which creates the Python environments."""

from __future__ import annotations

import threading
from functools import cache

_LOCK = threading.Lock()


def uv_bin() -> str:
    """The path of the uv executable of the package `uv`.

    The lock is needed because concurrent first calls of `sysconfig` can return None. Raises
    ImportError, or FileNotFoundError of uv, if the installation is broken.
    """
    with _LOCK:
        return _uv_bin()


@cache
def _uv_bin() -> str:
    from uv import find_uv_bin  # noqa: PLC0415 - a broken installation is a finding of `doctor`

    return str(find_uv_bin())
