"""A controller of the Gateway API for tests: Traefik, and the API's definitions.

A cluster of `make cluster` has neither: they are built when somebody asks for them.
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
    """Traefik's version, and a digest of everything that a build depends on."""
    digest = hashlib.sha256()
    for source in sorted(path for path in HERE.rglob("*") if path.is_file()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    found = re.search(r"traefik/v3 (v\S+)", (HERE / "go.mod").read_text())
    if found is None:
        raise ToolError(f"{HERE / 'go.mod'} does not require Traefik")
    return f"{found[1]}-{digest.hexdigest()[:8]}"


def binaries() -> Path:
    """The folder of the programs, built if this user has none of this version yet."""
    cache = cache_folder(os.environ, "gateway").resolve()
    return fill(cache, pinned_version(), [build], usable, "Traefik")


def definitions(folder: Path) -> list[Path]:
    """The CustomResourceDefinitions that came with the programs in `folder`."""
    return sorted((folder.parent / "crds").glob("gateway.networking.k8s.io_[!v]*.yaml"))


def usable(folder: Path, version: str) -> bool:
    """Whether a folder holds every program, and the definitions are beside it."""
    executable = all(os.access(folder / name, os.X_OK) for name in PROGRAMS)
    return executable and bool(definitions(folder))


def build(folder: Path, version: str) -> None:
    """Build Traefik and the server that tests call into `folder`/bin."""
    with building(folder, "Traefik", cache_folder(os.environ, "gateway")) as go:
        module = folder / "tmp" / "traefik"
        shutil.copytree(HERE, module)
        _leave_out_dns_providers(go, module)
        go.build(module, "./echo", "echo")
        go.build(module, TRAEFIK, "traefik")
        crds = _source(go, module, GATEWAY_API) / "config" / "crd" / "standard"
        (folder / "crds").mkdir()
        for each in crds.glob("*.yaml"):
            shutil.copyfile(each, folder / "crds" / each.name)


def _leave_out_dns_providers(go: Go, module: Path) -> None:
    """Have Traefik's ACME client know no DNS provider: it takes the SDKs of some 150 of them,
    which nothing here uses and not every proxy serves."""
    copy, ours = module / "lego", module / "no-dns"
    _run(["cp", "-r", "--no-preserve=mode", str(_source(go, module, LEGO)), str(copy)], go, module)
    for each in (copy / "providers" / "dns").glob("*.go"):
        each.unlink()
    shutil.copyfile(ours / "dns.go", copy / "providers" / "dns" / "dns.go")
    _run([go.command, "mod", "edit", "-replace", f"{LEGO}=./lego"], go, module)


def _source(go: Go, module: Path, name: str) -> Path:
    """The folder of a module, as go.sum has it."""
    told = _run([go.command, "mod", "download", "-json", name], go, module)
    return Path(json.loads(told)["Dir"])


def _run(command: list[str], go: Go, folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env=dict(go.env), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ToolError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
