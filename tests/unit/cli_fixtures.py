"""A stack on this machine with real programs under a real supervisord, made without the engine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from pulumi_mlops.files import remove_tree
from pulumi_mlops.stackdir import StackDir
from pulumi_mlops.targets.local.host import guard, health, jobs, ports
from pulumi_mlops.targets.local.host.supervisor import Program, Supervisor

SECRET = "the-secret-of-the-program"
SERVER = """
import http.server, os, sys
folder = sys.argv[1]
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ill = os.path.exists(os.path.join(folder, "ill"))
        self.send_response(503 if ill else 200)
        self.end_headers()
    def log_message(self, *_):
        pass
print("the server starts", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Answer).serve_forever()
"""


@contextmanager
def made_stack(project: Path, name: str = "dev") -> Iterator[StackDir]:
    """A project with a stack in it; what runs in it ends with the block."""
    (project / "Pulumi.yaml").write_text("name: test\nruntime: python\n")
    root = StackDir(project / ".mlops" / name)
    root.folder("programs")
    try:
        yield root
    finally:
        supervisor = Supervisor(root)
        for program in supervisor.names():
            supervisor.stop(program)
        for job in jobs.names(root):
            jobs.remove(root, job)
        for owner in ports.owners(root):
            ports.release(root, owner)
        remove_tree(root.runtime)


def server(root: StackDir, name: str, **changed: Any) -> Program:
    """A program that answers HTTP: 200, or 503 while there is a file `ill` in its folder."""
    port = ports.claim(root, f"{name}/http")
    folder = root.folder("programs", name)
    fields = {
        "name": name,
        "command": [sys.executable, "-c", SERVER, str(folder), str(port)],
        "env": {"PATH": "/usr/bin:/bin", "PASSWORD": SECRET},
        "cwd": folder,
        "log": root.path / "logs" / f"{name}.log",
        "health": {"port": port, "path": "/health"},
        **changed,
    }
    return Program(**fields)


def started(root: StackDir, program: Program) -> Program:
    """Have `program` run, and wait until it answers."""
    Supervisor(root).start(program)
    until(lambda: health.probe(health.HealthCheck(**(program.health or {}))) is None)
    return program


def kill_supervisor(root: StackDir) -> None:
    """Kill supervisord and its guard, which would start it again."""
    pid = Supervisor(root).pid()
    assert pid is not None
    daemon = psutil.Process(pid)
    processes = [each for each in daemon.children() if guard.__file__ in each.cmdline()]
    assert processes
    for process in (*processes, daemon):
        process.kill()
    until(lambda: Supervisor(root).pid() is None)


def job(root: StackDir, name: str, code: str, timeout_seconds: float = 600.0) -> jobs.Job:
    """A job that runs Python code."""
    defined = jobs.Job(
        name=name,
        command=[sys.executable, "-u", "-c", code],
        env={"PATH": "/usr/bin:/bin", "PASSWORD": SECRET},
        cwd=root.folder("jobs", name),
        timeout_seconds=timeout_seconds,
    )
    jobs.define(root, defined)
    return defined


def until(met: Any) -> None:
    """Wait until `met()`; pytest's own timeout ends what never comes."""
    while not met():
        time.sleep(0.05)


def end(process: Any) -> None:
    """End a process of a test, if it still runs."""
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        process.kill()
    process.wait()
