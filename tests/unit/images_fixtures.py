"""A small recipe, and a `docker` that records what it is asked and answers as told."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from pulumi_mlops.images.context import Recipe
from pulumi_mlops.images.options import BuildOptions

PASSWORD = "s3cr3t-of-the-index"
INDEX = f"https://reader:{PASSWORD}@packages.example/simple"

_DOCKER = """\
#!{python}
import json, os, pathlib, sys
folder = pathlib.Path({folder!r})
told = json.loads((folder / "told.json").read_text())
arguments = sys.argv[1:]
names = [b for a, b in zip(arguments, arguments[1:]) if a == "--build-arg"]
with (folder / "asked.jsonl").open("a") as asked:
    given = {{name: os.environ.get(name) for name in names}}
    asked.write(json.dumps({{"arguments": arguments, "given": given}}) + "\\n")
held = folder / "held"
what = arguments[0]
if told["down"]:
    sys.exit("Cannot connect to the Docker daemon at unix:///nowhere.sock")
if what == "info":
    print(json.dumps(told["registries"]))
elif what == "image":
    if arguments[-1] not in held.read_text().split():
        sys.exit("Error: No such image")
    print(123456789)
elif what == "manifest":
    if arguments[-1] not in told["registry"]:
        sys.exit(told["registry_says"])
elif what == "build":
    print("\\x1b[91mStep 1\\x1b[0m")
    reference = arguments[arguments.index("--tag") + 1]
    if any(part in reference for part in told["fails"]):
        sys.exit(told["build_says"])
    with held.open("a") as file:
        file.write(reference + "\\n")
elif what == "push":
    if told["push_says"]:
        sys.exit(told["push_says"])
elif what == "save":
    pathlib.Path(arguments[arguments.index("--output") + 1]).write_text("an archive")
"""


class FakeDocker:
    """An executable `docker` in a folder of its own, the first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "held").touch()
        self.tell()
        program = folder / "docker"
        program.write_text(_DOCKER.format(python=sys.executable, folder=str(folder)))
        program.chmod(0o755)

    def tell(self, **changed: Any) -> None:
        """What it is to answer."""
        told = {
            "down": False, "registry": [], "registry_says": "no such manifest: x", "fails": [],
            "registries": {}, "build_says": "", "push_says": "", **changed,
        }  # fmt: skip
        (self.folder / "told.json").write_text(json.dumps(told))

    def hold(self, reference: str) -> None:
        """Have it hold an image."""
        with (self.folder / "held").open("a") as file:
            file.write(f"{reference}\n")

    def asked(self, what: str) -> list[dict[str, Any]]:
        """What it was asked to `build`, `push`, …"""
        file = self.folder / "asked.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        return [line for line in lines if line["arguments"][0] == what]


def source(folder: Path) -> Path:
    """A folder of code with what is not to be deployed in it."""
    (folder / "package" / "__pycache__").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "venv").mkdir()
    for name in (
        "run.py", "package/__init__.py", "package/__pycache__/old.pyc", ".env", ".git/config",
        "venv/pyvenv.cfg", "stray.pyc",
    ):  # fmt: skip
        (folder / name).write_text("x = 1\n")
    (folder / "tool.sh").write_text("#!/bin/sh\n")
    (folder / "tool.sh").chmod(0o700)
    (folder / "run.py").chmod(0o600)
    return folder


def certificates(file: Path) -> Path:
    """A file that looks like an authority's certificates, without a last line break."""
    file.write_text("-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----")
    return file


def recipe(code: Path | None = None, **changed: Any) -> Recipe:
    """A recipe; what is no part of it is an option of the build."""
    parts = {key: changed.pop(key) for key in ("requirements", "python") if key in changed}
    return Recipe(
        **{"requirements": ["idna==3.20"], **parts},
        code={".": code} if code else {},
        options=BuildOptions(**changed),
    )


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Modes, times and contents of all there is below a folder, by path."""
    found = {}
    for file in sorted(folder.rglob("*")):
        status = file.stat()
        content = file.read_bytes() if file.is_file() else b""
        found[os.fspath(file.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, content)
    return found
