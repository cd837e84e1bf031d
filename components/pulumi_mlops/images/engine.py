"""Docker, podman or nerdctl, through the commands that they share."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .catalog import CatalogEntry
from .diagnosis import explain
from .options import ImageError

Follow = Callable[[str], None]
PROGRAMS = ("docker", "podman", "nerdctl")
_ANSWER_SECONDS = 20
_TAIL = 15
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_NOT_THERE = ("no such manifest", "manifest unknown", "not found", "name unknown")


class Engine:
    """A container engine that answers."""

    def __init__(self, program: str, cancelled: threading.Event | None = None) -> None:
        self.program = program
        self._cancelled = cancelled or threading.Event()

    @classmethod
    def find(cls, wanted: str | None = None, cancelled: threading.Event | None = None) -> Engine:
        """The engine called `wanted`. Default: the first that answers. Raises ImageError.

        When `cancelled` is set, running builds and pushes are ended.
        """
        programs = [name for name in ([wanted] if wanted else PROGRAMS) if shutil.which(name)]
        if not programs:
            raise ImageError(
                f"there is no {wanted or 'docker, podman or nerdctl'} on PATH: "
                "install one, or build on a machine that has one"
            )
        said = ""
        for program in programs:
            engine = cls(program, cancelled)
            answer = engine._ask("info")
            if answer.returncode == 0:
                return engine
            said = said or f"{program} says: {_last_line(answer.stderr or answer.stdout)}"
        raise ImageError(
            f"no container engine answers; {said}\n"
            "Start one, or set DOCKER_HOST (CONTAINER_HOST for podman), as in "
            "`export DOCKER_HOST=unix:///var/run/docker.sock` or `DOCKER_HOST=ssh://user@machine`"
        )

    def size(self, reference: str) -> int | None:
        """The size in bytes of an image; None if the engine does not have it."""
        answer = self._ask("image", "inspect", "--format", "{{.Size}}", reference)
        text = answer.stdout.strip()
        return int(text) if answer.returncode == 0 and text.isdigit() else None

    def registry_has(self, reference: str) -> bool | None:
        """Whether the container registry has the image; None if unknown."""
        answer = self._ask("manifest", "inspect", *self._insecure(reference), reference)
        if answer.returncode == 0:
            return True
        said = (answer.stderr + answer.stdout).lower()
        # "not found" also appears in errors about hosts.
        unknown_host = "no such host" in said or "lookup" in said
        return False if any(sign in said for sign in _NOT_THERE) and not unknown_host else None

    def _insecure(self, reference: str) -> list[str]:
        """The option for a registry that the engine uses plain HTTP with.

        Without it, docker reports existing images as missing.
        """
        host = reference.partition("/")[0]
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            answer = self._ask("info", "--format", "{{json .RegistryConfig}}").stdout
            known = json.loads(answer) if self.program == "docker" else {}
            if (known.get("IndexConfigs") or {}).get(host, {}).get("Secure") is False:
                return ["--insecure"]
            if host.partition(":")[0] == "localhost":
                host = "127.0.0.1"
            address = ipaddress.ip_address(host.rpartition(":")[0] or host)
            networks = map(ipaddress.ip_network, known.get("InsecureRegistryCIDRs") or ())
            if any(address in network for network in networks):
                return ["--insecure"]
        return []

    def build(self, image: CatalogEntry, follow: Follow | None = None) -> None:
        """Build an image, with a log beside its context. Raises ImageError with the cause.

        `follow` is called with the last line of the log from time to time.
        """
        arguments = ["build", "--tag", image.reference]
        if image.network:
            arguments += ["--network", image.network]
        # Names only: the values come from the environment variables, which other users cannot see.
        for key in image.build_args:
            arguments += ["--build-arg", key]
        self._logged(image, [*arguments, str(image.context)], image.build_args, follow)

    def push(self, image: CatalogEntry, follow: Follow | None = None) -> None:
        """Push an image of the engine; log and errors as for `build`."""
        self._logged(image, ["push", image.reference], {}, follow)

    def save(self, references: Sequence[str], file: Path) -> None:
        """Save images as one archive for `docker load` or `ctr images import`."""
        partial = file.with_name(f".{file.name}.{os.getpid()}.new")
        many = ["--multi-image-archive"] if self.program == "podman" else []
        try:
            ended = self._run(["save", *many, "--output", str(partial), *references])
            if ended.returncode != 0:
                raise ImageError(f"{file} cannot be written: {_last_line(ended.stderr)}")
            partial.replace(file)
        except OSError as error:
            raise ImageError(f"{file} cannot be written: {error.strerror}") from None
        finally:
            partial.unlink(missing_ok=True)

    def _logged(
        self,
        image: CatalogEntry,
        arguments: list[str],
        more: Mapping[str, str],
        follow: Follow | None,
    ) -> None:
        with image.log.open("w") as log:
            running = subprocess.Popen(
                [self.program, *arguments],
                env={**os.environ, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                self._wait(running, image, follow)
            finally:
                _end(running)
        if running.returncode != 0:
            text = _ANSI.sub("", image.log.read_text(errors="replace"))
            last = [line for line in text.splitlines() if line.strip()][-_TAIL:]
            raise ImageError(
                "\n".join(
                    [
                        f"{image.name}: {self.program} {arguments[0]} failed: {explain(text)}",
                        *(f"  | {line}" for line in last),
                        f"  its log: {image.log}",
                    ]
                )
            )

    def _wait(
        self, running: subprocess.Popen[bytes], image: CatalogEntry, follow: Follow | None
    ) -> None:
        while True:
            try:
                running.wait(0.5)
            except subprocess.TimeoutExpired:
                if follow:
                    follow(_last_line(_ANSI.sub("", image.log.read_text(errors="replace"))))
            else:
                return
            if self._cancelled.is_set():
                raise ImageError(f"{image.name}: interrupted; its log: {image.log}")

    def _ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command that answers within seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._run(arguments, _ANSWER_SECONDS)
        return subprocess.CompletedProcess(
            arguments, 124, "", f"no answer within {_ANSWER_SECONDS} s"
        )

    def _run(
        self, arguments: Sequence[str], timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )


def _end(running: subprocess.Popen[bytes]) -> None:
    """End a running program: SIGTERM first, so that its engine stops the work."""
    if running.poll() is None:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "(nothing)"
