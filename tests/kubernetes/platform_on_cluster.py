"""The platform of this checkout on a cluster, by the real engine, in a namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from kubernetes_plugin import PLUGINS

CHECKOUT = Path(__file__).resolve().parents[2]
REGISTRY = "mlops.test/dev"
ENDPOINT = "platform-penguins-endpoint"


def little() -> dict[str, Any]:
    """What each part asks for, so that two platforms find room on a node of two cores."""
    return {"resources": {"cpu": 0.05}}


class Platform:
    """A project folder with state of its own; `config` is what its stack is asked for."""

    def __init__(self, folder: Path, build: Mapping[str, Any], addresses: str) -> None:
        self.folder = folder
        self.namespace = f"platform-{uuid.uuid4().hex[:8]}"
        (folder / "state").mkdir(parents=True)
        (folder / "stacks").mkdir()
        shutil.copy(CHECKOUT / "stacks" / "__main__.py", folder / "stacks")
        # A copy each: a test changes the pipeline.
        shutil.copytree(CHECKOUT / "pipelines", folder / "pipelines")
        self._write(
            "Pulumi.yaml",
            {
                "name": "platform",
                "runtime": "python",
                "main": "stacks/",
                "stackConfigDir": "stacks/",
                "plugins": {
                    "providers": [
                        {"name": "mlops", "path": str(Path(sys.executable).parent)},
                        *PLUGINS,
                    ]
                },
            },
        )
        self.env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "STANDIN_PYTHON": sys.executable,
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_STACK": "test",
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "x",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }
        self.config: dict[str, Any] = {
            "mlops:target": "kubernetes",
            "mlops:kubernetes": {
                "namespace": self.namespace,
                "delete_namespace": True,
                "registry": REGISTRY,
                "volume_size": "1Gi",
                "build": dict(build),
                # This machine is none of the cluster's pods.
                "allow_from": [addresses],
            },
            "platform:artifacts": {"bucket": "artifacts", "retain": False, **little()},
            "platform:tracking": {"database": "postgresql", "retain": False, **little()},
            "platform:training": little(),
            "platform:monitoring": little(),
            "platform:pipelines": {
                "penguins": {
                    "source": "pipelines/penguins_mlflow",
                    "parameters": {"test-size": 0.25, "seed": 7},
                }
            },
            "platform:endpoints": {
                "penguins": {
                    "model": "penguins",
                    "pipeline": "penguins",
                    "requirements": "pipelines/penguins_mlflow/requirements.txt",
                    "replicas": 2,
                    "traffic": {"1": 100},
                    **little(),
                }
            },
        }
        self.run("pulumi", "stack", "init", "test")

    def run(self, *command: str, fails: bool | None = False) -> str:
        """What a command says; it is to succeed unless `fails`; None lets either be."""
        self._write("stacks/Pulumi.test.yaml", {"config": self.config})
        quiet = ("--non-interactive", "--color", "never") if command[0] == "pulumi" else ()
        ran = subprocess.run(
            [*command, *quiet],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        told = ran.stdout + ran.stderr
        assert fails is None or (ran.returncode != 0) is fails, told
        return told

    def preview(self, *flags: str, fails: bool = False) -> str:
        """What `pulumi preview` says."""
        return self.run("pulumi", "preview", *flags, fails=fails)

    def up(self, *, fails: bool = False) -> str:
        """What `pulumi up` says."""
        return self.run("pulumi", "up", "--yes", "--skip-preview", fails=fails)

    def route(self, traffic: Mapping[str, int], **more: Any) -> None:
        """Ask for another traffic table."""
        endpoint = self.config["platform:endpoints"]["penguins"]
        endpoint |= {"traffic": dict(traffic), **more}

    def train(self, seed: int) -> None:
        """Ask for another training, which registers the next version."""
        self.config["platform:pipelines"]["penguins"]["parameters"]["seed"] = seed

    def outputs(self) -> Any:
        """The stack's outputs, secrets too."""
        return json.loads(self.run("pulumi", "stack", "output", "--json", "--show-secrets"))

    def state(self) -> str:
        """The state as it is stored."""
        return self.run("pulumi", "stack", "export")

    def kubectl(self, *command: str, fails: bool | None = False) -> str:
        """What kubectl says, in the platform's namespace."""
        return self.run("kubectl", "--namespace", self.namespace, *command, fails=fails)

    def get(self, *what: str) -> Any:
        """Objects as the API has them."""
        return json.loads(self.kubectl("get", *what, "--output", "json"))

    def pods(self, name: str) -> list[dict[str, Any]]:
        """The pods of a workload that are not about to end."""
        found = self.get("pods", "--selector", f"app.kubernetes.io/name={name}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def address(self, url: str) -> str:
        """The same URL with the Service's own address: this machine knows no names of a cluster."""
        name, _, rest = url.removeprefix("http://").partition(f".{self.namespace}.svc")
        return f"http://{self.get('service', name)['spec']['clusterIP']}{rest}"

    def request(self) -> tuple[str, bytes]:
        """Where the endpoint is asked, and the example of the model."""
        outputs = self.outputs()
        body = outputs["try_it"].split(" -d '", 1)[1].rsplit("'", 1)[0]
        return f"{self.address(outputs['endpoints']['penguins']['url'])}/invocations", body.encode()

    def images(self) -> list[dict[str, Any]]:
        """What the stack's images are called, as far as previews have found."""
        found: list[dict[str, Any]] = json.loads(
            self.run("mlops", "images", "--stack", "test", "--json").partition("note:")[0]
        )
        return found

    def destroy(self) -> str:
        """Delete all of it, kept data too."""
        self.run("pulumi", "state", "unprotect", "--all", "--yes")
        return self.run("pulumi", "destroy", "--yes", "--skip-preview")

    def _write(self, name: str, content: Any) -> None:
        (self.folder / name).write_text(yaml.safe_dump(content, sort_keys=False))
