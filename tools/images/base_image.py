"""The base image of environments, where no image registry is in reach.

A minimal Debian with its own Python, by debootstrap, under the name that it stands in for, so that
the Dockerfile stays as it is. Made once per user (it takes a minute, and root) and kept as a tar.
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
# What an image needs not: the packages it was made of, and what people read.
_NEEDLESS = (
    "var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man",
    "usr/share/locale", "usr/share/info",
)  # fmt: skip
_PULL_SECONDS = 300
_SAY_SECONDS = 10


def ensure(docker: Docker, image: str = IMAGE) -> None:
    """Have the engine hold `image`: the real one where it can be pulled, else one like it."""
    if docker("images", "--quiet", image).strip():
        return
    try:
        docker("pull", "--quiet", image, timeout=_PULL_SECONDS)
        return
    except ClusterError:
        say(f"{image} cannot be pulled: a minimal Debian takes its place")
    docker("import", "--change", 'CMD ["python3"]', str(archive()), image)


def archive() -> Path:
    """The stand-in's files, as a tar in the cache."""
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
            # Mounts that debootstrap leaves when it is killed would be emptied too.
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
    # Its second half runs inside of the new system, which has none of this machine's programs.
    env["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    command = [
        str(programs / "sbin" / "debootstrap"), "--variant=minbase", f"--include={_INCLUDED}",
        _SUITE, str(root),
    ]  # fmt: skip
    begun = time.monotonic()
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
                    took = time.monotonic() - begun
                    say(f"making the base image ({took:.0f} s): {' '.join(last)[:70]}")
        except BaseException:
            child.terminate()
            child.wait()
            raise
    if child.returncode != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-5:]
        raise ClusterError("\n  ".join(["debootstrap failed:", *last]))
    for needless in _NEEDLESS:
        shutil.rmtree(root / needless)
        (root / needless).mkdir()
    python = root / "usr" / "bin" / "python"
    if not python.exists():
        python.symlink_to("python3")
