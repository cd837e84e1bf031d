"""Checks of the machine that every target needs."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import metadata

from packaging.specifiers import SpecifierSet

from .checks import Finding, ok, wrong


def python() -> list[Finding]:
    """The Python version of the interpreter, which also runs the resource plugin."""
    name = "Python"
    running = platform.python_version()
    required = metadata("pulumi-mlops")["Requires-Python"] or ""
    # The release number: a specifier excludes pre-releases.
    if SpecifierSet(required).contains(".".join(map(str, sys.version_info[:3]))):
        return [ok(name, f"{running} ({sys.executable})")]
    fix = "install the package on one of these versions"
    return [wrong(name, f"{running} is not supported; the package requires {required}", fix)]
