"""What every target must do with the real engine: create, no change, change, status, destroy.

A subclass names a target and its configuration. All requests of the port that need no capability
are in one program, and routes and schedules where the target has them, so that a target is
provisioned once.
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

data = Path(os.environ["DATA_DIR"], "requests") if "DATA_DIR" in os.environ else None
note = Path(os.environ["FILES_DIR"], "note") if "FILES_DIR" in os.environ else None


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/count":
            with data.open("a") as file:
                file.write("x")
        names = ("GREETING", "KEY", "URL", "VERSION")
        body = json.dumps({
            "variables": {name: os.environ.get(name) for name in names},
            "file": note.read_text() if note and note.exists() else None,
            "count": len(data.read_text()) if data and data.exists() else 0,
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
from pulumi_mlops.targets import registry
from pulumi_mlops.targets.port import (
    Backend, Capability, DatabaseSpec, EnvironmentSpec, Health, JobSpec, Resources, RouteSpec,
    ScheduleSpec, SecretSpec, ServiceSpec, resolve,
)

greeting = pulumi.Config("app").require("greeting")
target, opts = resolve(), pulumi.ResourceOptions()
capabilities = registry.load(pulumi.Config("mlops").require("target")).capabilities
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
        resources=Resources(cpu=0.05),
        public=True,
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
server = target.database("tool-server", DatabaseSpec(engine="postgresql", retain=False), opts)
if Capability.ROUTES in capabilities:
    live = pulumi.Config("app").get("live") or "v1"
    backends = {}
    for version in ("v1", "v2"):
        replica = target.service(
            f"tool-{version}",
            ServiceSpec(
                command=["python", "-m", "tool.serve"],
                environment=environment,
                env={"VERSION": version},
                health=Health(path="/", timeout=60),
                resources=Resources(cpu=0.05),
                routed=True,
                stop_seconds=2,
            ),
            opts,
        )
        backends[version] = Backend(
            service=replica, weight=100 if version == live else 0, check_path="/"
        )
    route = target.route("tool-route", RouteSpec(endpoint="tool", backends=backends), opts)
    pulumi.export("route", route.url)
if Capability.SCHEDULES in capabilities:
    target.schedule("tool-schedule", ScheduleSpec(job=job, cron="0 3 1 1 *"), opts)
client = target.client_settings("tool-client", pulumi.Output.from_input({"A": greeting}), opts)
pulumi.export("url", service.url)
pulumi.export("outputs", job.outputs)
pulumi.export("database", database.url)
pulumi.export("server", server.url)
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
    config: Mapping[str, Any] = {}
    supporting_autoscaling: ClassVar[str | None] = "kubernetes"
    """The target that the refusal of `max_replicas` names. None where `target` supports it."""
    has_routes: ClassVar[bool] = True

    @pytest.fixture
    def stack(self, engine_project: Callable[..., Any]) -> Callable[..., Any]:
        """Makes the stack of a program on the target."""

        def make(program: str, **config: str) -> Any:
            made = engine_project(program)
            (made.folder / "tool").mkdir()
            (made.folder / "tool" / "serve.py").write_text(SERVE)
            (made.folder / "tool" / "run.py").write_text(RUN)
            return made.stack("dev", self.configuration(**config))

        return make

    def configuration(self, **config: str) -> dict[str, Any]:
        """The configuration of a stack; `config` are values of the program."""
        settings = {f"app:{key}": value for key, value in config.items()}
        return {"mlops:target": self.target, **self.config, **settings}

    # What differs between targets for somebody who uses them.

    def prepare(self, dev: Any) -> None:
        """What a user does between the first preview and the first update."""

    def address(self, dev: Any, url: str) -> str:
        """`url` as this machine reaches it."""
        return url

    def leftovers(self, dev: Any) -> list[str]:
        """What exists of the stack. Logs of a failed update are kept on purpose."""
        folder = dev.project.folder / ".mlops" / "dev"
        files = (path for path in folder.rglob("*") if path.is_file())
        return [str(path) for path in files if path.suffix != ".lock"]

    def test_life_of_a_stack(self, stack: Callable[..., Any]) -> None:
        dev = stack(PROGRAM, greeting="hello")
        dev.preview()
        assert not self.leftovers(dev), "a preview has changed something"
        self.prepare(dev)
        dev.up()
        outputs = dev.outputs()
        assert outputs["outputs"] == {"greeting": "hello", "key": 20}
        url = self.address(dev, outputs["url"])
        answer = _answer(url)
        assert answer["variables"]["GREETING"] == "hello"
        assert len(answer["variables"]["KEY"]) == 20
        assert answer["variables"]["URL"].startswith("http://")
        assert answer["file"] == "a note"
        assert answer["count"] == 1
        assert outputs["database"].startswith("sqlite:////")
        assert outputs["server"].startswith("postgresql+psycopg2://mlops:")
        assert "export A=hello" in Path(outputs["client"]).read_text()
        assert answer["variables"]["KEY"] not in _state_text(dev), "a secret is in plain text"
        self.check_route(dev, "v1")

        dev.preview("--expect-no-changes")
        dev.up("--expect-no-changes")
        dev.pulumi("refresh", "--yes", "--expect-no-changes")
        assert self.mlops(dev, "status").returncode == 0

        urns = {each["urn"] for each in dev.resources().values()}
        dev.configure(self.configuration(greeting="hello", note="changed", live="v2"))
        dev.up()
        assert _answer(url)["count"] == 1, "a variable has started a run"
        self.check_route(dev, "v2")

        dev.configure(self.configuration(greeting="bye", live="v2"))
        dev.up()
        outputs = dev.outputs()
        assert _answer(url)["variables"]["GREETING"] == "bye"
        assert _answer(url)["count"] == 2, "the data outlives the change"
        assert outputs["outputs"]["greeting"] == "bye"
        assert {each["urn"] for each in dev.resources().values()} == urns
        dev.preview("--expect-no-changes")

        dev.destroy()
        with pytest.raises(httpx.TransportError):
            httpx.get(url, timeout=5)
        assert not self.leftovers(dev), "destroy has left something"

    def check_route(self, dev: Any, version: str) -> None:
        """All requests go to the version with weight."""
        outputs = dev.outputs()
        assert ("route" in outputs) is self.has_routes
        if not self.has_routes:
            return
        url = self.address(dev, outputs["route"])
        assert {_answer(url)["variables"]["VERSION"] for _ in range(20)} == {version}

    def test_a_service_that_ends_fails_the_update_and_leaves_nothing(
        self, stack: Callable[..., Any]
    ) -> None:
        dev = stack(ILL)
        self.prepare(dev)
        text = dev.up(expect_success=False)
        assert "ended on purpose" in text
        dev.destroy()

    def test_a_capability_that_it_lacks_is_refused_at_preview(
        self, stack: Callable[..., Any]
    ) -> None:
        if self.supporting_autoscaling is None:
            pytest.skip("the target supports max_replicas")
        text = " ".join(stack(UNSUPPORTED).preview(expect_success=False).split())
        assert "tool: max_replicas is not supported by this target" in text
        assert f"(mlops:target): {self.supporting_autoscaling}" in text

    def mlops(self, stack: Any, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pulumi_mlops.cli", "--stack", "dev", *command],
            cwd=stack.project.folder, env=stack.project.env, check=False,
            capture_output=True, text=True,
        )  # fmt: skip


def _answer(url: str) -> Any:
    return httpx.get(url, timeout=10).raise_for_status().json()


def _state_text(stack: Any) -> str:
    return json.dumps(stack.resources())
