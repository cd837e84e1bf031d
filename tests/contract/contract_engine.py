"""What every target must do with the real engine: create, no change, change, status, destroy.

A subclass names a target and its configuration. All requests of the port that need no capability
are in one program, so that a target is provisioned once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

SERVE = """
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

data = Path(os.environ["DATA_DIR"], "requests")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/count":
            with data.open("a") as file:
                file.write("x")
        names = ("GREETING", "KEY", "URL")
        body = json.dumps({
            "variables": {name: os.environ.get(name) for name in names},
            "file": Path(os.environ["FILES_DIR"], "note").read_text(),
            "count": len(data.read_text()) if data.exists() else 0,
        }).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""
RUN = """
import json, os, sys, urllib.request
with urllib.request.urlopen(sys.argv[1] + "/count") as answer:
    answer.read()
with open(os.environ["MLOPS_OUTPUTS"], "w") as file:
    json.dump({"greeting": sys.argv[2], "key": len(os.environ["KEY"])}, file)
"""
PROGRAM = """
import pulumi
from pulumi_mlops.sources import find_project
from pulumi_mlops.targets.port import (
    DatabaseSpec, EnvironmentSpec, Health, JobSpec, SecretSpec, ServiceSpec, resolve,
)

greeting = pulumi.Config("app").require("greeting")
target, opts = resolve(), pulumi.ResourceOptions()
environment = target.environment(
    "tool-environment",
    EnvironmentSpec(requirements=[], code={"tool": find_project() / "tool"}),
    opts,
)
secret = target.secret("tool-key", SecretSpec(length=20), opts)
volume = target.volume("tool-data", False, opts)
service = target.service(
    "tool",
    ServiceSpec(
        command=["python", "-m", "tool.serve"],
        environment=environment,
        env={"GREETING": greeting, "URL": "http://$(HOST):$(PORT)"},
        secrets={"KEY": secret},
        files={"note": "a note"},
        data=volume,
        health=Health(path="/", timeout=60),
        stop_seconds=2,
    ),
    opts,
)
job = target.job(
    "tool-job",
    JobSpec(
        command=["python", "-m", "tool.run", service.url, greeting],
        environment=environment,
        env={"NOTE": pulumi.Config("app").get("note") or ""},
        secrets={"KEY": secret},
        calls=[service],
        timeout=60,
    ),
    pulumi.ResourceOptions(depends_on=[service.ready]),
)
database = target.database("tool-database", DatabaseSpec(retain=False), opts)
client = target.client_settings("tool-client", pulumi.Output.from_input({"A": greeting}), opts)
pulumi.export("url", service.url)
pulumi.export("outputs", job.outputs)
pulumi.export("database", database.url)
pulumi.export("client", client.path)
"""
ILL = """
import pulumi
from pulumi_mlops.targets.port import EnvironmentSpec, Health, ServiceSpec, resolve

target, opts = resolve(), pulumi.ResourceOptions()
environment = target.environment("tool-environment", EnvironmentSpec(requirements=[]), opts)
command = ["python", "-c", "raise SystemExit('ended on purpose')"]
target.service(
    "tool",
    ServiceSpec(command=command, environment=environment, health=Health(timeout=20)),
    opts,
)
"""
UNSUPPORTED = """
import pulumi
from pulumi_mlops.targets.port import EnvironmentSpec, ServiceSpec, resolve

target, opts = resolve(), pulumi.ResourceOptions()
environment = target.environment("tool-environment", EnvironmentSpec(requirements=[]), opts)
target.service(
    "tool", ServiceSpec(command=["serve"], environment=environment, max_replicas=2), opts
)
"""


class EngineContract:
    """The contract with the real engine. A subclass sets `target` and `config`."""

    target: ClassVar[str]
    config: ClassVar[Mapping[str, Any]] = {}
    supporting_autoscaling: ClassVar[str] = "kubernetes"

    @pytest.fixture
    def stack(self, engine_project: Callable[..., Any]) -> Callable[..., Any]:
        """Makes the stack of a program on the target."""

        def make(program: str, **config: str) -> Any:
            made = engine_project(program)
            (made.folder / "tool").mkdir()
            (made.folder / "tool" / "serve.py").write_text(SERVE)
            (made.folder / "tool" / "run.py").write_text(RUN)
            settings = {f"app:{key}": value for key, value in config.items()}
            return made.stack("dev", {"mlops:target": self.target, **self.config, **settings})

        return make

    def test_life_of_a_stack(self, stack: Callable[..., Any]) -> None:
        dev = stack(PROGRAM, greeting="hello")
        dev.preview()
        assert not _files_of(dev), "a preview has changed something"
        dev.up()
        outputs = dev.outputs()
        assert outputs["outputs"] == {"greeting": "hello", "key": 20}
        answer = _answer(outputs["url"])
        assert answer["variables"]["GREETING"] == "hello"
        assert len(answer["variables"]["KEY"]) == 20
        assert answer["variables"]["URL"].startswith("http://")
        assert answer["file"] == "a note"
        assert answer["count"] == 1
        assert outputs["database"].startswith("sqlite:////")
        assert "export A=hello" in Path(outputs["client"]).read_text()
        assert answer["variables"]["KEY"] not in _state_text(dev), "a secret is in plain text"

        dev.preview("--expect-no-changes")
        dev.up("--expect-no-changes")
        dev.pulumi("refresh", "--yes", "--expect-no-changes")
        assert self.mlops(dev, "status").returncode == 0

        urns = {each["urn"] for each in dev.resources().values()}
        config = {"mlops:target": self.target, **self.config}
        dev.configure({**config, "app:greeting": "hello", "app:note": "changed"})
        dev.up()
        assert _answer(dev.outputs()["url"])["count"] == 1, "a variable has started a run"

        dev.configure({**config, "app:greeting": "bye"})
        dev.up()
        outputs = dev.outputs()
        assert _answer(outputs["url"])["variables"]["GREETING"] == "bye"
        assert _answer(outputs["url"])["count"] == 2, "the data outlives the change"
        assert outputs["outputs"]["greeting"] == "bye"
        assert {each["urn"] for each in dev.resources().values()} == urns
        dev.preview("--expect-no-changes")

        dev.destroy()
        with pytest.raises(httpx.TransportError):
            httpx.get(outputs["url"], timeout=5)
        assert not _files_of(dev), "destroy has left files"

    def test_a_service_that_ends_fails_the_update_and_leaves_nothing(
        self, stack: Callable[..., Any]
    ) -> None:
        dev = stack(ILL)
        text = dev.up(expect_success=False)
        assert "ended on purpose" in text
        dev.destroy()

    def test_a_capability_that_it_lacks_is_refused_at_preview(
        self, stack: Callable[..., Any]
    ) -> None:
        text = " ".join(stack(UNSUPPORTED).preview(expect_success=False).split())
        assert "tool: max_replicas is not supported by this target" in text
        assert f"(mlops:target): {self.supporting_autoscaling}" in text

    def mlops(self, stack: Any, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pulumi_mlops.cli", "--stack", "dev", command],
            cwd=stack.project.folder, env=stack.project.env, check=False,
            capture_output=True, text=True,
        )  # fmt: skip


def _answer(url: str) -> Any:
    return httpx.get(url, timeout=10).raise_for_status().json()


def _files_of(stack: Any) -> list[Path]:
    """The files of the stack on this machine. Logs of a failed update are kept on purpose."""
    folder = stack.project.folder / ".mlops" / "dev"
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def _state_text(stack: Any) -> str:
    return json.dumps(stack.resources())
