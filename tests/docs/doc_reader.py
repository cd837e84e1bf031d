"""A temporary checkout, in which commands run as a reader of the documentation runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from doc_commands import INTERRUPTED
from doc_pages import REPOSITORY

_FOLLOW_SECONDS = 5
_NOT_THE_READERS = re.compile(
    r"(PULUMI|MLOPS|MLFLOW|AWS|MAKE|MFLAGS|ARGS|WORKERS|STACK|KUBECONFIG)"
)


@dataclass
class Checkout:
    """A copy of this checkout's files in a folder of its own, and the shell of its reader."""

    folder: Path
    env: Mapping[str, str]
    outputs: dict[tuple[str, ...], str] = field(default_factory=dict)
    """By script: each one is run once."""

    def run(self, *commands: str) -> str:
        """The output of the commands in one shell. AssertionError if one of them fails."""
        if commands not in self.outputs:
            script = "\n".join(["set -eo pipefail", *map(self._unattended, commands)])
            done = subprocess.run(
                ["bash", "-c", script], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{script}\n{done.stdout}"
            self.outputs[commands] = done.stdout
        return self.outputs[commands]

    def _unattended(self, command: str) -> str:
        """The command, with what the reader would type into it."""
        if command == "pulumi up":
            return f"PULUMI_SKIP_CONFIRMATIONS=true {command}"
        if command in INTERRUPTED:
            return f"timeout --preserve-status --signal INT {_FOLLOW_SECONDS} {command}"
        return command


def copy_checkout(folder: Path) -> None:
    """Copy the files of this checkout that git knows or would take."""
    folder.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (source := REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
            # Older than `.venv`, which make would otherwise install again.
            os.utime(folder / name, (0, 0))
    # The interpreter that runs this test, with the package and the engine.
    (folder / ".venv").symlink_to(sys.prefix)


def reader_environment(home: Path) -> dict[str, str]:
    """This process' variables without those of a platform, an engine or make."""
    env = {key: value for key, value in os.environ.items() if not _NOT_THE_READERS.match(key)}
    env |= {"PULUMI_HOME": str(home), "NO_COLOR": "1"}
    # uv does not read pip's setting of the package index.
    if (index := env.get("PIP_INDEX_URL")) and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & set(env):
        env["UV_DEFAULT_INDEX"] = index
    return env
