"""Where uv is, which makes the environments."""

from __future__ import annotations

import threading
from functools import cache

_LOCK = threading.Lock()


def uv_bin() -> str:
    """The path of the package's own uv.

    One at a time: it asks `sysconfig`, which answers with None when threads ask first at once.
    Raises ImportError or uv's own FileNotFoundError when the installation is broken.
    """
    with _LOCK:
        return _found()


@cache
def _found() -> str:
    from uv import find_uv_bin  # noqa: PLC0415 - a broken installation is a finding of `doctor`

    return str(find_uv_bin())
