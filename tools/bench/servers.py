"""Servers under measurement, and a small load generator."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from figures import progress


def paired(
    subjects: Mapping[str, Callable[[], float]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Measure all subjects in turns (A B C, A B C, …).

    Whatever else slows the machine then slows all of them, so only ratios within a round say
    anything; a figure of one run is never compared with one of another.
    """
    samples: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(-warm_up, rounds):
        figures = {name: measure() for name, measure in subjects.items()}
        if number >= 0:
            for name, figure in figures.items():
                samples[name].append(figure)
            shown = ", ".join(f"{name} {figure:.0f}/s" for name, figure in figures.items())
            progress(f"round {number + 1} of {rounds}: {shown}")
    return samples


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server process of its own session, with its log in a file."""

    def __init__(self, name: str, command: list[str], env: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **env},
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, url: str, seconds: float = 300) -> None:
        """Wait until ``url`` answers 200."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.25)
        raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to whatever of its session is left."""
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()


def requests_per_second(port: int, path: str, body: bytes, *, clients: int, requests: int) -> float:
    """Closed-loop load: each client keeps one connection and one request in flight.

    Raises RuntimeError for an answer that is not 200.
    """
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    message = head.encode() + body

    async def client(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count):
            writer.write(message)
            answer = await reader.readuntil(b"\r\n\r\n")
            headers = answer.lower()
            length = int(headers.partition(b"content-length:")[2].partition(b"\r\n")[0])
            content = await reader.readexactly(length)
            if b" 200 " not in answer.partition(b"\r\n")[0]:
                raise RuntimeError(f"{path}: {answer.decode()}{content.decode()[:500]}")
        writer.close()

    async def load() -> float:
        started = time.perf_counter()
        await asyncio.gather(*(client(requests // clients) for _ in range(clients)))
        return requests / (time.perf_counter() - started)

    return asyncio.run(load())
