"""A small stack for tests that break things: every kind of resource, each up within seconds.

`PROGRAM` makes one after the other, so that a test can stop the update in the middle of any. Its
services are plain Python HTTP servers; a GET answers what the server is, a POST adds a line to its
data.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
from platform_project import Project, Stack

SERVER = """
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

data = Path(os.environ.get("DATA_DIR", os.environ["FILES_DIR"])) / "notes"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        broken = os.environ.get("BROKEN") == "unhealthy"
        notes = data.read_text().splitlines() if data.exists() else []
        self.answer(503 if broken else 200, {
            "error": "broken on purpose" if broken else None,
            "version": os.environ.get("VERSION"), "pid": os.getpid(), "notes": notes,
            "key": bool(os.environ.get("KEY")),
        })

    def do_POST(self):
        text = self.rfile.read(int(self.headers["content-length"])).decode()
        with data.open("a") as file:
            file.write(text + "\\n")
        self.answer(200, {})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-model-version", os.environ.get("VERSION", ""))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


if os.environ.get("BROKEN") == "crash":
    sys.exit("crashed on purpose")
time.sleep(0.5)  # as a model server, it is not ready at once
print("serving", os.environ.get("VERSION"), flush=True)
ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Answer).serve_forever()
"""

JOB = """
import json, os, time
print("training", flush=True)
time.sleep(0.5)
with open(os.environ["MLOPS_OUTPUTS"], "w") as file:
    json.dump({"accuracy": 0.5}, file)
"""

PROGRAM = """
import pulumi
from pulumi_mlops import sources
from pulumi_mlops.plugin.sdk import File
from pulumi_mlops.targets.local import sdk as resources

config = pulumi.Config("app")
folder = sources.find_project() / "app"
before = []


def after():
    return pulumi.ResourceOptions(depends_on=before[-1:])


def made(resource):
    before.append(resource)
    return resource


volume = made(resources.Volume("data", {"retain": config.get_bool("retain") or False}, after()))
secret = made(resources.Secret("key", {"retain": config.get_bool("retain") or False}, after()))
environment = made(resources.Environment("environment", {
    "requirements": ["six==1.17.0"],
    "code": {".": {"path": str(folder), "digest": sources.digest(folder)}},
}, after()))
program = {
    "environment": environment.output("path"),
    "code": environment.output("codePath"),
}
run = made(resources.Run("job", {
    **program, "command": ["python", "job.py"], "version": sources.digest(folder),
}, after()))
store = made(resources.Process("store", {
    **program,
    "command": ["python", "server.py"],
    "data": volume.output("path"),
    "env": {"VERSION": config.get("store") or "1", "BROKEN": config.get("broken") or "",
            "KEY": secret.output("value")},
    "health": {"path": "/", "timeoutSeconds": config.get_float("timeout") or 60},
}, after()))
versions = {}
for version in ("1", "2"):
    versions[version] = made(resources.Process(f"model-v{version}", {
        **program,
        "command": ["python", "server.py"],
        "env": {"VERSION": version},
        "routed": True,
        "health": {"path": "/", "timeoutSeconds": 60},
    }, after()))
route = made(resources.Route("route", {
    "endpoint": "model",
    "services": {
        f"v{version}": {
            "addresses": process.output("addresses")["http"],
            "weight": 100 if version == "1" else 0,
            "checkPath": "/",
        }
        for version, process in versions.items()
    },
}, after()))
made(File("notes", {
    "fileName": "client.env", "content": secret.output("value").apply(lambda it: f"KEY={it}")
}, after()))
pulumi.export("store", store.output("url"))
pulumi.export("route", route.output("url"))
pulumi.export("run", run.output("outputs"))
"""

MOMENTS = {
    "data": "Volume data creating",
    "key": "Secret key creating",
    "environment": "Environment environment creating",
    "job": "training",
    "store": "Process store creating",
    "model-v1": "Process model-v1 creating",
    "model-v2": "Process model-v2 creating",
    "route": "Route route creating",
    "notes": "File notes creating",
}
"""What the engine prints while it makes each resource, in this order."""

SLOW_MOMENTS = {name: MOMENTS[name] for name in ("environment", "job", "store", "route")}


def make(project: Any, program: str = PROGRAM) -> Stack:
    """A new project of this program; its stack, not brought up yet."""
    made: Project = project(program, name="light")
    app = made.folder / "app"
    app.mkdir()
    (app / "server.py").write_text(SERVER)
    (app / "job.py").write_text(JOB)
    return made.stack("dev")


def ask(url: str) -> dict[str, Any]:
    """What the server at `url` says of itself."""
    return dict(httpx.get(url, trust_env=False).raise_for_status().json())


def tell(url: str) -> str:
    """Have the server add a line to its data; the line, which no other is like."""
    text = uuid4().hex
    httpx.post(url, content=text, trust_env=False).raise_for_status()
    return text


def names(stack: Stack) -> set[str]:
    """What runs, without the generation of each: one process of each name, or AssertionError."""
    running = stack.programs()
    assert all(len(pids) == 1 for pids in running.values()), f"doubles: {running}"
    return {name.split(".")[0].removesuffix("-0") for name in running}
