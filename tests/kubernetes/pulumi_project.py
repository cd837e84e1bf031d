"""A Pulumi program on a cluster, run by the real engine with either plugin of pulumi-kubernetes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any

from kubernetes_plugin import PLUGINS


class Project:
    """One program with state of its own and a namespace of its own (`NAMESPACE` in it)."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder = folder
        self.namespace = f"standin-{uuid.uuid4().hex[:8]}"
        (folder / "state").mkdir(parents=True)
        settings = {
            "name": "standin",
            "runtime": "python",
            "plugins": {"providers": [*PLUGINS]},
        }
        (folder / "Pulumi.yaml").write_text(json.dumps(settings))
        self.env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "STANDIN_PYTHON": sys.executable,
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "x",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "NAMESPACE": self.namespace,
        }
        self.write(program)
        self.run("stack", "init", "dev")

    def write(self, program: str) -> None:
        """Put another program in the place of the one that is there."""
        head = """\
        import os
        import pulumi
        import pulumi_kubernetes as k8s
        from pulumi import ResourceOptions as Options

        NAMESPACE = os.environ["NAMESPACE"]
        """
        text = textwrap.dedent(head) + textwrap.dedent(program)
        (self.folder / "__main__.py").write_text(text)

    def run(self, *command: str, fails: bool = False, **env: str) -> str:
        """What `pulumi <command>` says; it is to succeed unless `fails`."""
        ran = subprocess.run(
            ["pulumi", *command, "--non-interactive", "--color", "never"],
            cwd=self.folder,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        told = ran.stdout + ran.stderr
        assert (ran.returncode != 0) is fails, told
        return told

    def up(self, *flags: str, fails: bool = False, **env: str) -> str:
        """What `pulumi up` says."""
        return self.run("up", "--yes", "--skip-preview", *flags, fails=fails, **env)

    def process(self, *command: str) -> subprocess.Popen[str]:
        """`pulumi <command>`, started."""
        return subprocess.Popen(
            ["pulumi", *command, "--non-interactive", "--color", "never"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def outputs(self) -> Any:
        """The stack's outputs."""
        return json.loads(self.run("stack", "output", "--json", "--show-secrets"))

    def resource(self, name: str) -> Any:
        """What the state keeps of the resource with this name."""
        exported = json.loads(self.run("stack", "export"))
        found = exported["deployment"]["resources"]
        return next(each for each in found if each["urn"].endswith(f"::{name}"))

    def kubectl(self, *command: str) -> str:
        """What kubectl says, in the project's namespace."""
        done = subprocess.run(
            ["kubectl", "--namespace", self.namespace, *command],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def destroy(self) -> None:
        """Delete what was provisioned, and its traces."""
        self.run("destroy", "--yes", "--skip-preview")
        shutil.rmtree(self.folder, ignore_errors=True)
