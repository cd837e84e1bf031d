"""A small program of the kubernetes target: pods of busybox, a volume, by the real engine."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import yaml
from pulumi_project import Project

TOOL = """
import pulumi
from pulumi_mlops.targets.port import EnvironmentSpec, Health, JobSpec, Resources, ServiceSpec
from pulumi_mlops.targets.port import resolve

here, opts = resolve(), pulumi.ResourceOptions()
image = here.environment("tool-environment", EnvironmentSpec(requirements=[]), opts)


def serve(name, *command, **more):
    command = command or ("/busybox", "httpd", "-f", "-h", "/tmp", "-p", "8080")
    spec = ServiceSpec(
        command=command, environment=image, ports={"http": 8080}, resources=Resources(cpu=0.01),
        health=Health(timeout=more.pop("timeout", 60)), **more,
    )
    return here.service(name, spec, opts)
"""
"""What each program begins with: `serve` makes a service of busybox."""


class MlopsProject(Project):
    """A program that has `here`, the target; `settings` are its `mlops:kubernetes`."""

    def __init__(self, folder: Path, program: str, image: str, **settings: Any) -> None:
        self.settings: dict[str, Any] = {
            "images": {"tool": image},
            "volume_size": "1Mi",
            "delete_namespace": True,
            "namespace": f"light-{uuid.uuid4().hex[:8]}",
            **settings,
        }
        super().__init__(folder, program)
        plugins = yaml.safe_load((folder / "Pulumi.yaml").read_text())
        ours = {"name": "mlops", "path": str(Path(sys.executable).parent)}
        plugins["plugins"]["providers"].append(ours)
        (folder / "Pulumi.yaml").write_text(json.dumps(plugins))

    def write(self, program: str) -> None:
        (self.folder / "__main__.py").write_text(TOOL + program)

    def run(self, *command: str, fails: bool = False, **env: str) -> str:
        self.namespace = self.settings["namespace"]
        config = {"mlops:target": "kubernetes", "mlops:kubernetes": self.settings}
        (self.folder / "Pulumi.dev.yaml").write_text(json.dumps({"config": config}))
        return super().run(*command, fails=fails, **env)

    def destroy(self) -> None:
        """Delete all of it, kept data too."""
        self.run("state", "unprotect", "--all", "--yes")
        super().destroy()
        gone = ["kubectl", "delete", "namespace", self.namespace, "--ignore-not-found"]
        subprocess.run(gone, env=self.env, check=True, capture_output=True, timeout=120)

    def preview(self, *flags: str, fails: bool = False) -> str:
        """What `pulumi preview` says."""
        return self.run("preview", *flags, fails=fails)

    def get(self, *what: str) -> Any:
        """Objects as the API has them."""
        return json.loads(self.kubectl("get", *what, "--output", "json"))

    def objects(self) -> dict[str, str]:
        """Everything in the namespace that a stack makes, and its version."""
        kinds = (
            "configmap,networkpolicy,secret,service,deployment,statefulset,pvc,job,resourcequota"
        )
        return {
            f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["resourceVersion"]
            for each in self.get(kinds)["items"]
        }
