"""Record the state of a stack that an installed version of the package brings up.

    python tests/upgrade/record.py 0.1.0 local-small --bin /path/to/venv/bin

brings up `cases/local-small.yaml` with the package of that virtual environment, writes
`recorded/0.1.0/Pulumi.local-small.yaml` and `recorded/0.1.0/local-small.json`, and destroys the
stack. `pulumi` has to be on PATH. README.md says what a case on a cluster needs.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from replay import HERE, PACKAGE, PROJECT, VENV, Project

_FIRST_PORT = 61001
"""Ports of a recorded state: outside those that the package and Linux choose from."""
_LARGE = 300_000
"""Bytes of a state from which it is compressed."""
_LOOPBACK = re.compile(r"127\.0\.0\.1:(\d{4,5})\b")
_OF_THE_MOMENT = ("created", "modified", "sourcePosition", "stackTrace")
"""Members of a recorded resource that say when and from which line it was made."""


class Recording:
    """One case on its way to a recorded state."""

    def __init__(self, project: Project, case: Mapping[str, Any], options: argparse.Namespace):
        self.project, self.case = project, case
        self.load: list[str] | None = options.load and shlex.split(options.load)
        self.build: dict[str, Any] = json.loads(options.build)

    def up(self) -> None:
        """Bring up the case; versions above the first are registered by running the pipelines."""
        project = self.project
        for manifest in self.case.get("objects") or ():
            self.kubectl("apply", "--filename", "-", manifest=manifest)
        self.configure({"config": self.case["config"]})
        project.init()
        for path, value in (self.case.get("secrets") or {}).items():
            project.pulumi("config", "set", "--path", "--secret", path, value)
        wanted = yaml.safe_load(project.config_file.read_text())
        if self.load:
            self.bring_images(wanted)
        endpoints = wanted["config"].get("platform:endpoints") or {}
        later = [name for name, each in endpoints.items() if set(each["traffic"]) != {"1"}]
        if later:
            first = copy.deepcopy(wanted)
            for name in later:
                first["config"]["platform:endpoints"][name]["traffic"] = {"1": 100}
            self.configure(first)
            project.pulumi("up", "--yes", "--skip-preview")
            for name in later:
                pipeline = f"platform-{endpoints[name]['pipeline']}-pipeline-job"
                project.run("mlops", "run", pipeline, "--stack", project.stack)
        self.configure(wanted)
        project.pulumi("up", "--yes", "--skip-preview")

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Write the stack file."""
        self.project.config_file.write_text(yaml.safe_dump(dict(settings)))

    def bring_images(self, wanted: Mapping[str, Any]) -> None:
        """Build the images as this machine can, call them as the case does, and load them."""
        project = self.project
        here = copy.deepcopy(dict(wanted))
        here["config"]["mlops:kubernetes"]["build"] = self.build
        self.configure(here)
        project.pulumi("preview")
        project.run("mlops", "images", "--stack", project.stack, "build")
        built = self.images()
        self.configure(wanted)
        project.pulumi("preview")
        meant = self.images()
        for name, reference in meant.items():
            project.run("docker", "tag", built[name], reference)
        tar = project.folder / "images.tar"
        project.run("docker", "save", "--output", str(tar), *meant.values())
        project.run(*(self.load or ()), str(tar))
        tar.unlink()

    def images(self) -> dict[str, str]:
        """The references of the stack's images by name."""
        printed = self.project.run("mlops", "images", "--stack", self.project.stack, "--json")
        return {each["name"]: each["reference"] for each in json.loads(printed)}

    def kubectl(self, *arguments: str, manifest: Mapping[str, Any]) -> None:
        """Run kubectl on a manifest."""
        subprocess.run(
            ["kubectl", *arguments], input=json.dumps(manifest), text=True, check=True,
            env=self.project.env, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def down(self) -> None:
        """Destroy the stack and everything that it would keep."""
        self.project.pulumi("state", "unprotect", "--all", "--yes")
        self.project.pulumi("destroy", "--yes", "--skip-preview")
        for manifest in reversed(self.case.get("objects") or ()):
            self.kubectl("delete", "--ignore-not-found", "--filename", "-", manifest=manifest)


def scrubbed(text: str, folders: Mapping[str, str]) -> str:
    """The text without what is this machine's: folders and ports."""
    for folder, placeholder in folders.items():
        text = text.replace(folder, placeholder)
    ports = list(dict.fromkeys(_LOOPBACK.findall(text)))
    for number, port in enumerate(ports):
        text = re.sub(rf"\b{port}\b", str(_FIRST_PORT + number), text)
    return text


def without_moment(state: Mapping[str, Any]) -> dict[str, Any]:
    """The exported state without times and source positions."""
    deployment = state["deployment"]
    resources = [
        {key: value for key, value in each.items() if key not in _OF_THE_MOMENT}
        for each in deployment["resources"]
    ]
    manifest = {**deployment["manifest"], "time": "2000-01-01T00:00:00Z"}
    return {**state, "deployment": {**deployment, "manifest": manifest, "resources": resources}}


def package_folder(bin_folder: Path) -> Path:
    """Where the package of the virtual environment is."""
    program = "import pulumi_mlops, pathlib; print(pathlib.Path(pulumi_mlops.__file__).parent)"
    done = subprocess.run(
        [str(bin_folder / "python"), "-c", program], capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip())


def write(project: Project, target: Path, folders: Mapping[str, str]) -> None:
    """Write the configuration and the state, secrets in plain text: an import encrypts them."""
    target.mkdir(parents=True, exist_ok=True)
    # Generated secrets of a stack that is destroyed open nothing.
    state = json.loads(project.pulumi("stack", "export", "--show-secrets"))
    # Both in one text, so that a pinned port is the same in both.
    text = json.dumps([project.config_file.read_text(), without_moment(state)])
    config, state = json.loads(scrubbed(text, folders))
    (target / project.config_file.name).write_text(config)
    content = (json.dumps(state, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    for former in target.glob(f"{project.stack}.json*"):
        former.unlink()
    if len(content) <= _LARGE:
        (target / f"{project.stack}.json").write_bytes(content)
    else:
        (target / f"{project.stack}.json.gz").write_bytes(gzip.compress(content, mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("version", help="of the package, as in 0.1.0")
    parser.add_argument("case", choices=sorted(file.stem for file in HERE.glob("cases/*.yaml")))
    parser.add_argument("--bin", required=True, type=Path, help="bin folder of its environment")
    parser.add_argument("--plugin", type=Path, help="folder of pulumi-resource-kubernetes")
    parser.add_argument("--build", default="{}", help="build settings of this machine, as JSON")
    parser.add_argument("--load", help="command that loads a tar of images into the cluster")
    options = parser.parse_args()
    bin_folder = options.bin.absolute()
    case = yaml.safe_load((HERE / "cases" / f"{options.case}.yaml").read_text())
    plugins = {"kubernetes": options.plugin.absolute()} if options.plugin else {}
    with tempfile.TemporaryDirectory(prefix="record-") as folder:
        project = Project(Path(folder) / "project", bin_folder, options.case, plugins)
        if kubeconfig := os.environ.get("KUBECONFIG"):
            shutil.copy(kubeconfig, project.kubeconfig)
        folders = {
            str(package_folder(bin_folder)): PACKAGE,
            str(bin_folder.parent): VENV,
            str(project.folder): PROJECT,
        }
        recording = Recording(project, case, options)
        try:
            recording.up()
            write(project, HERE / "recorded" / options.version, folders)
        finally:
            recording.down()


if __name__ == "__main__":
    main()
