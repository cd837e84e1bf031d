"""Installs the Debian packages that the node needs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from progress import ToolError, run, say

# A command or file of each package. Only missing packages are installed.
NEEDED = {
    "etcd-server": "etcd",
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "iproute2": "ip",
    "util-linux": "nsenter",
}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POLICY = Path("/usr/sbin/policy-rc.d")
SERVICES = {"etcd-server": "etcd.service", "containerd": "containerd.service"}


def missing() -> list[str]:
    return [
        package
        for package, proof in NEEDED.items()
        if not (Path(proof).exists() if proof[0] == "/" else shutil.which(proof, path=SYSTEM_PATH))
    ]


def ensure() -> None:
    """Install the missing packages without starting their services."""
    if os.geteuid() != 0:
        raise ToolError("a cluster needs root, for namespaces, mounts and network links")
    absent = missing()
    if not absent:
        return
    listed = " ".join(absent)
    if shutil.which("apt-get") is None:
        raise ToolError(
            f"packages are missing, and apt-get is not available to install them: {listed}"
        )
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    say(f"installing {listed}")

    def status(elapsed: float) -> str:
        return f"installing {listed} ({elapsed:.0f} s)"

    with no_services():
        run([*apt, "update"], env, Path("/"), status=status, limit_seconds=300)
        run(
            [*apt, "install", "-y", "--no-install-recommends", *absent],
            env,
            Path("/"),
            status=status,
            limit_seconds=900,
        )
    disable([SERVICES[package] for package in absent if package in SERVICES])
    if remaining := missing():
        raise ToolError(f"installed, but not found on {SYSTEM_PATH}: {' '.join(remaining)}")


@contextlib.contextmanager
def no_services() -> Iterator[None]:
    """Keep package scripts from starting services. An existing policy of the machine stays."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def disable(services: list[str]) -> None:
    """Keep services of packages that were just installed from starting at the next boot."""
    systemctl = shutil.which("systemctl")
    if systemctl and services:
        subprocess.run(
            [systemctl, "disable", *services], check=False, capture_output=True, timeout=60
        )
