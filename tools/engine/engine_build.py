"""Builds the engine from the committed module files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from cache import cache_folder
from go_build import building

HERE = Path(__file__).resolve().parent
CLI_PACKAGE = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
HOST_PACKAGE = "github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python"
SDK_MODULE = "github.com/pulumi/pulumi/sdk/v3"
VERSION_VARIABLE = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"
HOST = "pulumi-language-python"


def build(folder: Path, version: str) -> None:
    """Build the engine and its Python language host into `folder`/bin."""
    with building(folder, f"pulumi {version}", cache_folder(os.environ, "engine")) as go:
        go.build(HERE / "cli", CLI_PACKAGE, "pulumi", flags=f"-X {VERSION_VARIABLE}=v{version}")
        go.build(HERE / "language-python", HOST_PACKAGE, HOST)
        sdk = subprocess.run(
            [go.command, "list", "-m", "-f", "{{.Dir}}", SDK_MODULE],
            cwd=HERE / "language-python",
            env=go.env,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        script = go.binaries / f"{HOST}-exec"
        script.write_text(
            without_interrupt_traceback((Path(sdk) / "python" / "cmd" / script.name).read_text())
        )
        script.chmod(0o755)


def without_interrupt_traceback(script: str) -> str:
    """The host's script that runs a program, ended by an interrupt like any other process.

    The engine interrupts it whenever an update fails; a traceback of that would stand among the
    diagnostics, above the error that a reader looks for.
    """
    first, rest = script.split("\n", 1)
    return f"{first}\nimport signal\n\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n{rest}"
