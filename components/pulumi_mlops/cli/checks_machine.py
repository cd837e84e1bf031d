"""Checks of the machine that every target needs."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import metadata

from .checks import Check, ok, wrong


def python() -> list[Check]:
    """The interpreter, which is the plugin's too."""
    name = "Python"
    running = platform.python_version()
    required = metadata("pulumi-mlops")["Requires-Python"] or ""
    if _meets(sys.version_info[:2], required):
        return [ok(name, f"{running} ({sys.executable})")]
    fix = "install the package on one of these versions"
    return [wrong(name, f"{running} is none of {required}", fix)]


def _meets(running: tuple[int, int], required: str) -> bool:
    """Whether a version meets `>=3.11,<3.14`; other forms are not used by this package."""
    for sign, major, minor in re.findall(r"(>=|<)\s*(\d+)\.(\d+)", required):
        bound = (int(major), int(minor))
        if (sign == ">=" and running < bound) or (sign == "<" and running >= bound):
            return False
    return True
