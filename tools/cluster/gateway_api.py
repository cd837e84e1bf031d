"""A controller of the Gateway API for tests: Traefik, with the CustomResourceDefinitions.

The test cluster contains neither. They are built when a test needs them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from cache import cache_folder, fill
from go_build import Go, building
from progress import ToolError

HERE = Path(__file__).resolve().parent / "traefik"
TRAEFIK = "github.com/traefik/traefik/v3/cmd/traefik"
LEGO = "github.com/go-acme/lego/v5"
GATEWAY_API = "sigs.k8s.io/gateway-api"
PROGRAMS = ["traefik", "echo"]


def pinned_version() -> str:
    """The version of Traefik and a digest of all sources of the build."""
    digest = hashlib.sha256()
    for source in sorted(path for path in HERE.rglob("*") if path.is_file()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    match = re.search(r"traefik/v3 (v\S+)", (HERE / "go.mod").read_text())
    if match is None:
        raise ToolError(f"{HERE / 'go.mod'} does not require Traefik")
    return f"{match[1]}-{digest.hexdigest()[:8]}"


def binaries() -> Path:
    """The folder of the programs. They are built if this version is not in the cache."""
    cache = cache_folder(os.environ, "gateway").resolve()
    return fill(cache, pinned_version(), [build], usable, "Traefik")


def definitions(folder: Path) -> list[Path]:
    """The CustomResourceDefinitions that belong to the programs in `folder`."""
    return sorted((folder.parent / "crds").glob("gateway.networking.k8s.io_[!v]*.yaml"))


def usable(folder: Path, version: str) -> bool:
    """Whether a folder contains all programs and has the definitions next to it."""
    executable = all(os.access(folder / name, os.X_OK) for name in PROGRAMS)
    return executable and bool(definitions(folder))


def build(folder: Path, version: str) -> None:
    """Build Traefik and the echo server of the tests into `folder`/bin."""
    with building(folder, "Traefik", cache_folder(os.environ, "gateway")) as go:
        module = folder / "tmp" / "traefik"
        shutil.copytree(HERE, module)
        _remove_dns_providers(go, module)
        go.build(module, "./echo", "echo")
        go.build(module, TRAEFIK, "traefik")
        crds = _source(go, module, GATEWAY_API) / "config" / "crd" / "standard"
        (folder / "crds").mkdir()
        for each in crds.glob("*.yaml"):
            shutil.copyfile(each, folder / "crds" / each.name)


def _remove_dns_providers(go: Go, module: Path) -> None:
    """Replace the DNS providers of Traefik's ACME client by none.

    They need the SDKs of about 150 services, which tests do not use and not every module proxy
    has.
    """
    lego, replacement = module / "lego", module / "no-dns"
    _run(["cp", "-r", "--no-preserve=mode", str(_source(go, module, LEGO)), str(lego)], go, module)
    for each in (lego / "providers" / "dns").glob("*.go"):
        each.unlink()
    shutil.copyfile(replacement / "dns.go", lego / "providers" / "dns" / "dns.go")
    _run([go.command, "mod", "edit", "-replace", f"{LEGO}=./lego"], go, module)


def _source(go: Go, module: Path, name: str) -> Path:
    """The folder of a module in the version of go.sum."""
    output = _run([go.command, "mod", "download", "-json", name], go, module)
    return Path(json.loads(output)["Dir"])


def _run(command: list[str], go: Go, folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env=dict(go.env), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ToolError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
