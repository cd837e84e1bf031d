"""A supervised program as the engine drives it: real supervisor, real processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.files import remove_tree
from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.plugin.handler import Context
from pulumi_mlops.stackdir import StackDir
from pulumi_mlops.targets.local.host import supervisord
from pulumi_mlops.targets.local.host.supervisor import Supervisor
from pulumi_mlops.targets.local.resources.process import ProcessHandler, ProcessInputs

pytestmark = pytest.mark.engine

# Ready as long as the file READY is there.
SERVER = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if os.path.exists(os.environ["READY"]) else 503)
        self.end_headers()

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


class Process:
    """One resource, state and all."""

    def __init__(self, folder: Path) -> None:
        self.handler = ProcessHandler()
        self.root = StackDir(folder / "test")
        self.ready = folder / "ready"
        self.ready.touch()
        self.inputs: dict[str, Any] = {
            "command": [sys.executable, "-c", SERVER],
            "env": {"READY": str(self.ready)},
            "health": {"path": "/", "timeoutSeconds": 600.0},
        }
        self.state: dict[str, Any] = {}

    @property
    def context(self) -> Context:
        return Context(
            urn="urn:pulumi:test::mlops::mlops:local:Process::server",
            name="server",
            stack="test",
            project="mlops",
            root=self.root,
            log=lambda *args, **kwargs: None,
            cancelled=threading.Event(),
        )

    def create(self) -> None:
        _, outputs = self.handler.create(self.context, ProcessInputs.model_validate(self.inputs))
        self.state = {**self.inputs, **outputs}

    def update(self) -> None:
        new = ProcessInputs.model_validate(self.inputs)
        self.state |= self.handler.update(self.context, "server", self.state, new)

    def drift(self) -> dict[str, str]:
        return self.handler.drift(self.context, "server", self.state)

    @property
    def pid(self) -> int:
        return int(Supervisor(self.root).infos().get("server-0", {}).get("pid", 0))


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    made.handler.delete(made.context, "server", made.state)
    remove_tree(made.root.runtime)


def test_a_program_that_is_not_ready_again_is_waited_for(process: Process) -> None:
    """After a kill of everything, an update must not end before the models are loaded."""
    process.create()
    assert process.drift() == {}
    before = process.pid
    process.ready.unlink()
    os.kill(before, signal.SIGKILL)
    while process.pid in (0, before):
        pass
    assert process.drift() == {"status": "starting"}
    assert process.handler.read(process.context, "server", process.state) == {"status": "starting"}
    threading.Timer(1, process.ready.touch).start()
    restarted = process.pid
    process.update()
    assert process.ready.exists()
    assert process.drift() == {}
    assert process.pid == restarted, "it was not restarted once more"


def test_an_old_program_that_is_not_ready_is_left_alone(process: Process) -> None:
    process.create()
    process.state["health"] = {"path": "/", "timeoutSeconds": 1.0}
    process.ready.unlink()
    while process.drift() != {}:
        pass
    assert not process.ready.exists()


def test_a_frozen_supervisor_is_named(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    process.create()
    pid = Supervisor(process.root).pid()
    assert pid is not None
    monkeypatch.setattr(supervisord, "ANSWER_SECONDS", 0.5)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(ResourceError, match=r"supervisord does not answer .*kill -CONT"):
            process.drift()
    finally:
        os.kill(pid, signal.SIGCONT)
    monkeypatch.undo()
    assert process.drift() == {}
