"""Servers under measurement, and a small load generator."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from figures import Figure, median_of_ratios, progress


@dataclass(frozen=True)
class Rate:
    """Requests that a server answered, per second of its CPU and per second."""

    per_cpu_second: float
    per_second: float


def rate_ratios(
    name: str, ours: Sequence[Rate], others: Sequence[Rate], limit: float | None
) -> Iterator[Figure]:
    """Our rate over the reference's: per second of CPU, which has the limit, and per second."""
    yield median_of_ratios(
        name,
        [rate.per_cpu_second for rate in ours],
        [rate.per_cpu_second for rate in others],
        limit,
    )
    yield median_of_ratios(
        f"{name}, wall time",
        [rate.per_second for rate in ours],
        [rate.per_second for rate in others],
    )


def paired(
    subjects: Mapping[str, Callable[[], Rate]], rounds: int, warm_up: int = 1
) -> dict[str, list[Rate]]:
    """Measure all subjects in turns (A B C, A B C, …).

    Whatever else slows the machine then slows all of them, so only ratios within a round say
    anything; a figure of one run is never compared with one of another.
    """
    samples: dict[str, list[Rate]] = {name: [] for name in subjects}
    for number in range(-warm_up, rounds):
        figures = {name: measure() for name, measure in subjects.items()}
        if number >= 0:
            for name, figure in figures.items():
                samples[name].append(figure)
            shown = ", ".join(f"{name} {rate.per_cpu_second:.0f}" for name, rate in figures.items())
            progress(f"round {number + 1} of {rounds}, requests per CPU second: {shown}")
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

    def cpu(self) -> float:
        """The CPU seconds of the server's processes so far."""
        server = psutil.Process(self.process.pid)
        times = [each.cpu_times() for each in (server, *server.children(recursive=True))]
        return sum(each.user + each.system for each in times)

    def rate(self, port: int, path: str, body: bytes, *, clients: int, requests: int) -> Rate:
        """The rate of such a load. See `load`."""
        cpu = self.cpu()
        seconds = load(port, path, body, clients=clients, requests=requests)
        # The kernel counts in ticks of 10 ms.
        return Rate(requests / max(self.cpu() - cpu, 0.01), requests / seconds)

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


def load(port: int, path: str, body: bytes, *, clients: int, requests: int) -> float:
    """Closed-loop load: each client keeps one connection and one request in flight. The seconds
    that it took.

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

    async def all_clients() -> float:
        started = time.perf_counter()
        await asyncio.gather(*(client(requests // clients) for _ in range(clients)))
        return time.perf_counter() - started

    return asyncio.run(all_clients())
