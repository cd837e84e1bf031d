"""The contract of the Kubernetes target, with the real engine and a real cluster."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_plugin
import pytest
import yaml
from contract_engine import EngineContract
from platform_project import Project, Stack

from pulumi_mlops.images.options import BuildOptions

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1800)]


class TestCluster(EngineContract):
    """One namespace for each test; its images are built here and put on the node."""

    target = "kubernetes"
    supporting_autoscaling = None

    @pytest.fixture(autouse=True)
    def _cluster(self, cluster: Any, docker: Any, options: BuildOptions, tmp_path: Path) -> None:
        self.cluster, self.docker, self.folder = cluster, docker, tmp_path
        build = {
            "ca": str(options.ca) if options.ca else None,
            "index_url": options.index_url,
            "network": options.network,
        }
        self.namespace = f"contract-{uuid.uuid4().hex[:8]}"
        settings = {
            "namespace": self.namespace,
            "delete_namespace": True,
            "registry": "mlops.test/dev",
            "volume_size": "64Mi",
            "build": build,
            # This machine is not a pod of the cluster.
            "allow_from": [cluster.addresses()],
        }
        self.config = {"mlops:kubernetes": settings}

    @pytest.fixture
    def engine_project(self, tmp_path: Path) -> Iterator[Callable[[str], Project]]:
        """Projects with the plugin of pulumi-kubernetes that the tests use."""
        made: list[Project] = []

        def make(program: str) -> Project:
            project = Project(tmp_path / str(len(made)), program)
            file = project.folder / "Pulumi.yaml"
            content = yaml.safe_load(file.read_text())
            content["plugins"]["providers"] += kubernetes_plugin.PLUGINS
            file.write_text(yaml.safe_dump(content))
            project.env |= {**self.docker.env, "STANDIN_PYTHON": sys.executable}
            project.env["PATH"] = f"{Path(sys.executable).parent}:{project.env['PATH']}"
            made.append(project)
            return project

        yield make
        for project in made:
            project.destroy()

    def prepare(self, dev: Stack) -> None:
        dev.preview()
        listed = self.mlops(dev, "images", "--json").stdout.partition("note:")[0]
        present = self.cluster.images()
        images = [each for each in json.loads(listed) if each["reference"] not in present]
        if not images:
            return
        built = self.mlops(dev, "images", "build", *(each["name"] for each in images))
        assert built.returncode == 0, built.stderr
        tar = self.folder / "images.tar"
        self.docker("save", "--output", str(tar), *(each["reference"] for each in images))
        self.cluster.load(tar)
        tar.unlink()

    def address(self, dev: Stack, url: str) -> str:
        """The Service's cluster IP. This machine does not resolve names of the cluster."""
        name = str(urlsplit(url).hostname).partition(".")[0]
        service = json.loads(self.kubectl("get", "service", name, "--output", "json"))
        port = urlsplit(url).port
        return f"http://{service['spec']['clusterIP']}:{port}"

    def leftovers(self, dev: Stack) -> list[str]:
        namespaces = self.kubectl("get", "namespaces", "--output", "name").split()
        return [name for name in namespaces if name.endswith(self.namespace)]

    def kubectl(self, *arguments: str) -> str:
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
