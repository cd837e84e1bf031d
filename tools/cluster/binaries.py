"""Builds the programs of the cluster: Kubernetes, CoreDNS, metrics-server and pause."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from cache import cache_folder, fill
from go_build import building
from progress import ToolError, version_of

HERE = Path(__file__).resolve().parent
SOURCES = [
    HERE / "kube" / "go.mod",
    HERE / "kube" / "go.sum",
    *sorted((HERE / "kube").glob("**/*.go")),
    HERE / "coredns" / "go.mod",
    HERE / "coredns" / "go.sum",
    *sorted((HERE / "coredns").glob("**/*.go")),
    HERE / "metrics" / "go.mod",
    HERE / "metrics" / "go.sum",
]
PROGRAMS = [
    *("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"),
    *("node-volumes", "node-policies", "kubectl"),
]
STANDALONE_PROGRAMS = ["coredns", "metrics-server", "pause"]
METRICS_SERVER = "sigs.k8s.io/metrics-server/cmd/metrics-server"
VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


def kubernetes_version() -> str:
    """The version that the committed module files build, such as `v1.34.4`."""
    module = HERE / "kube" / "go.mod"
    match = re.search(r"k8s\.io/kubernetes (v\S+)", module.read_text())
    if match is None:
        raise ToolError(f"{module} does not require k8s.io/kubernetes")
    return match[1]


def pinned_version() -> str:
    """The version of Kubernetes and a digest of all sources of the build."""
    digest = hashlib.sha256()
    for source in SOURCES:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return f"{kubernetes_version()}-{digest.hexdigest()[:8]}"


def binaries() -> Path:
    """The folder of the programs. They are built if this version is not in the cache."""
    cache, version = cache_folder(os.environ, "cluster").resolve(), pinned_version()
    ready = cache / version / "bin"
    if usable(ready, version):
        return ready
    return fill(cache, version, [build], usable, f"kubernetes {kubernetes_version()}")


def usable(folder: Path, version: str) -> bool:
    """Whether a folder contains all programs of this version."""
    if not all(os.access(folder / name, os.X_OK) for name in (*PROGRAMS, *STANDALONE_PROGRAMS)):
        return False
    printed = version_of([str(folder / "kubelet"), "--version"])
    return printed == f"Kubernetes {version.rpartition('-')[0]}"


def build(folder: Path, version: str) -> None:
    """Build all programs into `folder`/bin. Those of Kubernetes are links to one binary."""
    kubernetes = version.rpartition("-")[0]
    major, minor, _ = kubernetes.removeprefix("v").split(".")
    values = {
        "gitVersion": kubernetes,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    flags = " ".join(
        f"-X {package}.{name}={value}"
        for package in VERSION_PACKAGES
        for name, value in values.items()
    )
    cache = cache_folder(os.environ, "cluster")
    with building(folder, f"kubernetes {kubernetes}", cache) as go:
        go.build(HERE / "kube", "./pause", "pause")
        go.build(HERE / "coredns", ".", "coredns")
        go.build(HERE / "metrics", METRICS_SERVER, "metrics-server")
        go.build(HERE / "kube", ".", "kube", flags=flags)
        for program in PROGRAMS:
            (go.binaries / program).symlink_to("kube")
