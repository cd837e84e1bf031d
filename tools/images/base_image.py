"""A replacement for the base image of Python environments, if no container registry is reachable.

debootstrap creates a minimal Debian with its own Python. It gets the name of the base image, so
that the Dockerfile is unchanged. It is built once for each user, in a minute and as root, and kept
as a tar file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from debian import ClusterError, cache_folder, locked, run, say, unpacked

if TYPE_CHECKING:
    from docker_engine import Docker

IMAGE = "python:3.11-slim"
_SUITE = "bookworm"  # its Python is 3.11
_INCLUDED = "python3,python3-venv,ca-certificates"
# Files that the image does not need: package caches, logs and documentation.
_UNNEEDED = (
    "var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man",
    "usr/share/locale", "usr/share/info",
)  # fmt: skip
_PULL_SECONDS = 300
_SAY_SECONDS = 10


def ensure(docker: Docker, image: str = IMAGE) -> None:
    """Provide `image` in the container engine: pull it, or else build the replacement."""
    if docker("images", "--quiet", image).strip():
        return
    try:
        docker("pull", "--quiet", image, timeout=_PULL_SECONDS)
        return
    except ClusterError:
        say(f"{image} cannot be pulled: using a minimal Debian instead")
    docker("import", "--change", 'CMD ["python3"]', str(archive()), image)


def archive() -> Path:
    """The tar file of the replacement in the cache."""
    debootstrap = unpacked("debootstrap", ("debootstrap",))
    cache = cache_folder()
    target = cache / f"python-{_SUITE}.tar"
    with locked(cache):
        if target.exists():
            return target
        partial = Path(tempfile.mkdtemp(prefix=".base-", dir=cache))
        try:
            _bootstrap(debootstrap, partial / "root", partial / "log")
            run(["tar", "-C", str(partial / "root"), "-cf", str(partial / "tar"), "."])
            (partial / "tar").rename(target)
        finally:
            # A killed debootstrap leaves mounts, whose contents would be deleted too.
            for inner in ("proc", "sys"):
                with contextlib.suppress(ClusterError):
                    run(["umount", "--lazy", str(partial / "root" / inner)])
            shutil.rmtree(partial, ignore_errors=True)
    return target


def _bootstrap(debootstrap: Path, root: Path, log: Path) -> None:
    if os.geteuid() != 0:
        raise ClusterError("debootstrap needs root")
    programs = debootstrap / "usr"
    env = {**os.environ, "DEBOOTSTRAP_DIR": str(programs / "share" / "debootstrap")}
    # The second stage runs inside the new system, which has its programs in these folders.
    env["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    command = [
        str(programs / "sbin" / "debootstrap"), "--variant=minbase", f"--include={_INCLUDED}",
        _SUITE, str(root),
    ]  # fmt: skip
    started = time.monotonic()
    with log.open("wb") as file:
        child = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
        try:
            while True:
                try:
                    child.wait(_SAY_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    last = log.read_text(errors="replace").strip().splitlines()[-1:]
                    elapsed = time.monotonic() - started
                    say(f"building the base image ({elapsed:.0f} s): {' '.join(last)[:70]}")
        except BaseException:
            child.terminate()
            child.wait()
            raise
    if child.returncode != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-5:]
        raise ClusterError("\n  ".join(["debootstrap failed:", *last]))
    for unneeded in _UNNEEDED:
        shutil.rmtree(root / unneeded)
        (root / unneeded).mkdir()
    python = root / "usr" / "bin" / "python"
    if not python.exists():
        python.symlink_to("python3")
