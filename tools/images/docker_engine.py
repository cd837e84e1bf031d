"""A Docker engine for tests on a machine without one. All of its files are in one folder.

    docker_engine.py FOLDER [--base]     runs until Ctrl-C; prints the value of DOCKER_HOST

It unpacks Debian's docker.io without installing it, and needs root on Debian 12 or a derivative. It
has no bridge and changes no firewall rules, so builds and containers use `--network host` or
`none`. At the end it removes its processes, mounts and files.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from debian import ClusterError, run, say, unpacked

# With dependencies that a minimal Debian lacks.
PACKAGES = ("docker.io", "containerd", "runc", "libseccomp2", "libdevmapper1.02.1")
_READY_SECONDS = 60
_STOP_SECONDS = 30
_SOCKET_LENGTH = 107  # maximum length of the path of a Unix socket


@dataclass(frozen=True)
class Docker:
    """A running Docker engine, with the environment variables for its `docker` command."""

    env: Mapping[str, str]

    @property
    def host(self) -> str:
        """The value of DOCKER_HOST; empty for the engine of the machine."""
        return self.env.get("DOCKER_HOST", "")

    def __call__(self, *arguments: str, timeout: float | None = None) -> str:
        """Run `docker` with these arguments. Returns its output."""
        return run(["docker", *arguments], env=self.env, timeout=timeout)


@contextlib.contextmanager
def existing_or_new() -> Iterator[Docker]:
    """The engine of DOCKER_HOST or of the machine. If none answers, a new one is started."""
    machine_engine = Docker(dict(os.environ))
    try:
        machine_engine("info", timeout=20)
        answers = True
    except ClusterError:
        answers = False
    if answers:
        yield machine_engine
        return
    with (
        tempfile.TemporaryDirectory(prefix="mlops-docker-") as parent,
        engine(Path(parent) / "engine") as docker,
    ):
        yield docker


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[Docker]:
    """Run a Docker engine with all of its files in the new folder `folder`, removed at the end."""
    if os.geteuid() != 0:
        raise ClusterError("a Docker engine needs root: point DOCKER_HOST at one instead")
    folder = folder.absolute()
    if len(os.fsencode(folder / "exec" / "containerd" / "containerd-debug.sock")) > _SOCKET_LENGTH:
        raise ClusterError(f"{folder} is too long a path for sockets: choose a shorter one")
    if folder.exists():
        raise ClusterError(
            f"{folder} exists: choose a new folder, because it is removed at the end"
        )
    programs = unpacked("docker", PACKAGES)
    docker = Docker({**_environment(programs), "DOCKER_HOST": f"unix://{folder}/docker.sock"})
    folder.mkdir(parents=True, mode=0o711)
    process: subprocess.Popen[bytes] | None = None
    try:
        for driver in ("overlay2", "vfs"):
            process = _start(folder, programs, driver)
            if _ready(process, folder / "docker.sock"):
                break
            _end(docker, process)
        else:
            last = (folder / "log").read_text(errors="replace").splitlines()[-5:]
            raise ClusterError("\n  ".join(["dockerd failed to start:", *last]))
        yield docker
    finally:
        if process is not None:
            _end(docker, process)
        _sweep(folder)
        shutil.rmtree(folder)


def _environment(programs: Path) -> dict[str, str]:
    libraries = [*programs.glob("usr/lib/*-linux-gnu"), *programs.glob("lib/*-linux-gnu")]
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")},
        "PATH": f"{programs}/usr/bin:{programs}/usr/sbin:{os.environ.get('PATH', '')}",
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        # Without logins and plug-ins of the user, so that tests do not depend on the machine.
        "DOCKER_CONFIG": str(programs / "no-config"),
    }


def _start(folder: Path, programs: Path, driver: str) -> subprocess.Popen[bytes]:
    # dockerd ends together with the thread that started it.
    die_with_parent = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
    command = [
        *die_with_parent, str(programs / "usr/sbin/dockerd"),
        "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
        "--pidfile", str(folder / "pid"), "--host", f"unix://{folder}/docker.sock",
        "--storage-driver", driver,
        "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
        "--ip-masq=false", "--config-file", str(folder / "daemon.json"),
        "--cgroup-parent", _cgroup(folder),
    ]  # fmt: skip
    (folder / "daemon.json").write_text("{}")
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command, env=_environment(programs), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def _cgroup(folder: Path) -> str:
    return f"/mlops-docker-{folder.stat().st_ino}"


def _ready(process: subprocess.Popen[bytes], address: Path) -> bool:
    """Wait until the engine answers. Returns False if it ends or does not answer in time."""
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            socket.socket(socket.AF_UNIX) as connection,
        ):
            connection.settimeout(5)
            connection.connect(str(address))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            if b" 200 " in connection.recv(100):
                return True
        time.sleep(0.1)
    return False


def _end(docker: Docker, process: subprocess.Popen[bytes]) -> None:
    """End the engine and its containers."""
    if process.poll() is None:
        with contextlib.suppress(ClusterError):
            if containers := docker("ps", "--all", "--quiet").split():
                docker("rm", "--force", "--volumes", *containers)
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _sweep(folder: Path) -> None:
    """Remove processes, mounts and control groups of a killed engine."""
    for _ in range(3):  # processes of containers end with their shims
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                is_own = any(word.startswith(os.fsencode(folder) + b"/") for word in words)
                if is_own and int(entry.name) != os.getpid() and b"containerd" in words[0]:
                    os.kill(int(entry.name), signal.SIGKILL)
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        below = [line.split()[1] for line in mounts if line.split()[1].startswith(f"{folder}/")]
        for mount in reversed(below):
            with contextlib.suppress(ClusterError):
                run(["umount", "--lazy", mount])
        if not below:
            break
    name = _cgroup(folder).strip("/")
    for group in [*Path("/sys/fs/cgroup").glob(f"*/{name}"), Path("/sys/fs/cgroup", name)]:
        for inner in sorted(group.rglob("*/"), reverse=True):
            with contextlib.suppress(OSError):
                inner.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()


def _stop(signum: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signum)  # the cleanup code runs


def main() -> int:
    import base_image  # noqa: PLC0415 - it knows this module

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a new folder; it is removed at the end")
    parser.add_argument(
        "--base", action="store_true", help="also provide the base image of Python environments"
    )
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        with engine(options.folder) as docker:
            if options.base:
                base_image.ensure(docker)
            print(f"export DOCKER_HOST={docker.host}", flush=True)
            signal.pause()
    except ClusterError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
