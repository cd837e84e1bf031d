"""A container engine and a cluster: real ones, and what tests make on them is taken away again."""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from pulumi_mlops.images.options import DEFAULT_INDEX, BuildOptions

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "shared"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "images"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "cluster"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engine"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))
sys.path.insert(0, str(Path(__file__).parent))
import base_image
import debian
import docker_engine
import image
import kubernetes_plugin
from mlops_project import MlopsProject
from platform_on_cluster import Platform
from pulumi_project import Project

BUSYBOX = "mlops.test/busybox:1"


def pytest_report_header() -> str:
    """Which plugin of pulumi-kubernetes runs."""
    return kubernetes_plugin.TOLD


TOOL = Path(__file__).resolve().parents[2] / "tools" / "cluster" / "cluster.py"


@pytest.fixture(scope="session")
def docker() -> Iterator[docker_engine.Docker]:
    """The machine's container engine, or one of our own."""
    with docker_engine.existing_or_new() as docker:
        base_image.ensure(docker)
        yield docker


@pytest.fixture
def engine(docker: docker_engine.Docker, monkeypatch: pytest.MonkeyPatch) -> docker_engine.Docker:
    """The same, as the `docker` of this process."""
    for key in ("PATH", "DOCKER_HOST", "DOCKER_CONFIG"):
        if key in docker.env:
            monkeypatch.setenv(key, docker.env[key])
    return docker


@pytest.fixture(scope="session")
def options() -> BuildOptions:
    """How this machine reaches the package index."""
    given = os.environ
    ca = given.get("SSL_CERT_FILE")
    return BuildOptions(
        ca=Path(ca) if ca else None,
        index_url=given.get("UV_DEFAULT_INDEX") or given.get("PIP_INDEX_URL") or DEFAULT_INDEX,
        proxies={
            key: given[key] for key in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY") if key in given
        },
        network="host",
    )


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """A cluster that KUBECONFIG leads to; `make test-kubernetes` starts one."""
    if not os.environ.get("KUBECONFIG"):
        pytest.fail("KUBECONFIG is unset: `make test-kubernetes` starts a cluster and sets it")
    for program in ("pulumi", "kubectl"):
        if shutil.which(program) is None:
            pytest.fail(f"there is no {program} on PATH: `make test-kubernetes` puts it there")
    return Cluster()


@pytest.fixture(scope="session")
def busybox(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with `/busybox` alone, in the cluster."""
    folder = tmp_path_factory.mktemp("busybox")
    program = debian.unpacked("busybox", ("busybox-static",)) / "bin" / "busybox"
    image.pack(program, BUSYBOX, folder / "busybox.tar")
    cluster.load(folder / "busybox.tar")
    return BUSYBOX


@pytest.fixture(scope="session")
def platform(
    cluster: Cluster,
    docker: docker_engine.Docker,
    options: BuildOptions,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Platform]:
    """The platform of this checkout, its images built and in the cluster; not up yet."""
    folder = tmp_path_factory.mktemp("platform")
    made = new_platform(folder, cluster, options)
    bring_images(made, cluster, docker, folder)
    yield made
    made.destroy()
    left = made.run("kubectl", "get", "namespaces", "--output", "name")
    assert made.namespace not in left


def new_platform(folder: Path, cluster: Cluster, options: BuildOptions) -> Platform:
    """A project of its own; nothing of it is provisioned."""
    build = {
        "ca": str(options.ca) if options.ca else None,
        "index_url": options.index_url,
        "network": options.network,
    }
    return Platform(folder / "project", build, cluster.addresses())


def bring_images(
    platform: Platform, cluster: Cluster, docker: docker_engine.Docker, folder: Path
) -> None:
    """Build what a preview of the platform names and the cluster has not, and have it take that."""
    platform.env |= docker.env
    platform.preview()
    there = cluster.images()
    if missing := [each for each in platform.images() if each["reference"] not in there]:
        names = (each["name"] for each in missing)
        platform.run("mlops", "images", "--stack", "test", "build", *names)
        references = (each["reference"] for each in missing)
        docker("save", "--output", str(folder / "images.tar"), *references)
        cluster.load(folder / "images.tar")
        (folder / "images.tar").unlink()


class Cluster:
    """The node of `make cluster`: it takes images from files."""

    def images(self) -> str:
        """The images that it has."""
        return self._tool("images")

    def addresses(self) -> str:
        """The range of addresses of its node, its pods and this machine's end of the wire."""
        config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
        host = urlsplit(config["clusters"][0]["cluster"]["server"]).hostname
        return str(ipaddress.ip_network(f"{host}/16", strict=False))

    def load(self, tar: Path) -> None:
        """Take the images of a tar."""
        self._tool("load", str(tar))

    def restart(self, program: str) -> None:
        """End one of its programs and start it anew."""
        self._tool("restart", program)

    def _tool(self, *command: str) -> str:
        done = subprocess.run(
            [sys.executable, str(TOOL), *command],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def project(cluster: Cluster, busybox: str, tmp_path: Path) -> Iterator[Callable[[str], Project]]:
    """Makes projects for one test; what they provisioned is destroyed after it."""
    made: list[Project] = []

    def make(program: str) -> Project:
        made.append(Project(tmp_path / str(len(made)), program))
        return made[-1]

    yield make
    for each in made:
        each.destroy()


@pytest.fixture
def light(cluster: Cluster, busybox: str, tmp_path: Path) -> Iterator[Callable[..., MlopsProject]]:
    """Makes small programs of the target for one test; what they provisioned goes after it."""
    made: list[MlopsProject] = []

    def make(program: str, **settings: Any) -> MlopsProject:
        made.append(MlopsProject(tmp_path / str(len(made)), program, busybox, **settings))
        return made[-1]

    yield make
    for each in made:
        each.destroy()
