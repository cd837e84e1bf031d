"""Docker, podman or nerdctl, by their common commands."""

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

from .catalog import Image
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
        """The engine `wanted`, or the first one there is. Raises ImageError when none answers.

        Once `cancelled` is set, what it builds or pushes is ended.
        """
        programs = [name for name in ([wanted] if wanted else PROGRAMS) if shutil.which(name)]
        if not programs:
            raise ImageError(
                f"there is no {wanted or 'docker, podman or nerdctl'} on PATH: "
                "install one, or build where one is"
            )
        said = ""
        for program in programs:
            engine = cls(program, cancelled)
            answer = engine._ask("info")
            if answer.returncode == 0:
                return engine
            said = said or f"{program} says: {_last_line(answer.stderr or answer.stdout)}"
        raise ImageError(
            f"no container engine is in reach; {said}\n"
            "Start one, or point DOCKER_HOST at one (CONTAINER_HOST for podman), as in "
            "`export DOCKER_HOST=unix:///var/run/docker.sock` or `DOCKER_HOST=ssh://user@machine`"
        )

    def size(self, reference: str) -> int | None:
        """Bytes of an image that the engine has; None when it has it not."""
        answer = self._ask("image", "inspect", "--format", "{{.Size}}", reference)
        text = answer.stdout.strip()
        return int(text) if answer.returncode == 0 and text.isdigit() else None

    def registry_has(self, reference: str) -> bool | None:
        """Whether the reference's registry has it; None when it does not say."""
        answer = self._ask("manifest", "inspect", *self._insecure(reference), reference)
        if answer.returncode == 0:
            return True
        said = (answer.stderr + answer.stdout).lower()
        # "not found" is said of hosts too.
        unknown_host = "no such host" in said or "lookup" in said
        return False if any(sign in said for sign in _NOT_THERE) and not unknown_host else None

    def _insecure(self, reference: str) -> list[str]:
        """The option for a registry that the engine itself speaks HTTP with: without it docker
        says of all that is there that it is not."""
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

    def build(self, image: Image, follow: Follow | None = None) -> None:
        """Build an image, its log beside its context; `follow` gets the log's last line now and
        then. Raises ImageError saying why not."""
        arguments = ["build", "--tag", image.reference]
        if image.network:
            arguments += ["--network", image.network]
        # By name alone: the values come from the environment, which other users cannot see.
        for key in image.build_args:
            arguments += ["--build-arg", key]
        self._logged(image, [*arguments, str(image.context)], image.build_args, follow)

    def push(self, image: Image, follow: Follow | None = None) -> None:
        """Push an image that the engine has, as `build` does it."""
        self._logged(image, ["push", image.reference], {}, follow)

    def save(self, references: Sequence[str], file: Path) -> None:
        """Save images as one archive, which `docker load` and `ctr images import` take."""
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
        self, image: Image, arguments: list[str], more: Mapping[str, str], follow: Follow | None
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

    def _wait(self, running: subprocess.Popen[bytes], image: Image, follow: Follow | None) -> None:
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
        """A question that is answered soon or not at all."""
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
    """End a program that still runs: asked first, since its engine is to stop as well."""
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
