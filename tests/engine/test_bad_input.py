"""Bad input and bad surroundings: each is told in words that name the input and the fix."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import light
import pytest
from platform_project import Project, Stack, until

pytestmark = pytest.mark.engine

HEAD = """
import pulumi
from pulumi_mlops import sources
from pulumi_mlops.targets.local import sdk as resources
config = pulumi.Config("app")
"""


@pytest.fixture(scope="module")
def bare(engine: None, places: Path) -> Iterator[Stack]:
    """One stack for all programs that are refused: nothing of them is ever made."""
    project = Project(places / "bad input", HEAD)
    stack = project.stack("dev")
    yield stack
    project.destroy()
    logs = stack.root.path / "logs"
    assert {Path(each).parent for each in stack.leftovers()} <= {logs}


def refused(stack: Stack, program: str, *, at: str = "preview") -> str:
    """The error that a program ends with, which shows nothing of our insides."""
    stack.project.program(HEAD + dedent(program))
    output = stack.preview(expect_success=False) if at == "preview" else stack.up(
        expect_success=False)  # fmt: skip
    error = output.split("Diagnostics:")[1].split("Resources:")[0]
    assert "This is an error of the mlops plugin" not in error
    return " ".join(error.split())


def test_a_port_that_is_taken(bare: Stack) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = refused(bare, f"""
            resources.Process("web", {{
                "command": ["python", "-m", "http.server"], "ports": {{"http": {port}}},
            }})
        """)  # fmt: skip
    assert f"port {port} is taken" in error
    assert f"pid {os.getpid()}" in error
    assert "choose another, or remove the input" in error


def test_requirements_that_do_not_resolve(bare: Stack) -> None:
    error = refused(bare, """
        resources.Environment("environment", {"requirements": ["six==1.17.0", "six<1.16"]})
    """)  # fmt: skip
    assert "requirements do not resolve (input requirements)" in error
    assert "six" in error


def test_a_python_that_is_not_there(bare: Stack) -> None:
    error = refused(bare, """
        resources.Environment("environment", {"requirements": [], "python": "3.5"})
    """)  # fmt: skip
    assert "Python 3.5 is not on this machine, which has 3." in error
    assert "uv python install 3.5" in error


def test_a_bucket_of_a_store_that_does_not_answer(bare: Stack) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        error = refused(bare, f"""
            import pulumi_mlops as mlops
            mlops.ArtifactStore("artifacts", {{
                "endpoint_url": "{url}", "access_key_id": "somebody",
                "secret_access_key": "a-key-of-nobody",
            }})
        """, at="up")  # fmt: skip
    assert url in error
    assert "a-key-of-nobody" not in bare.project.transcript.read_text()


def test_a_job_that_fails(bare: Stack) -> None:
    error = refused(bare, """
        resources.Run("job", {"command": ["python", "-c",
            "import sys; [print('line', n) for n in range(100)]; sys.exit('no data today')"]})
    """, at="up")  # fmt: skip
    log = bare.root.path / "logs" / "job.log"
    assert "job ended with exit code 1. Its last log lines:" in error
    assert "line 99 no data today" in error
    assert "line 5 " not in error
    assert str(log) in error
    assert "line 5\n" in log.read_text()
    assert "job" not in bare.resources()


def test_a_process_that_crashes(bare: Stack) -> None:
    error = refused(bare, """
        resources.Process("web", {
            "command": ["python", "-c", "import sys; sys.exit('no data today')"]})
    """, at="up")  # fmt: skip
    assert "web-0 does not stay up" in error
    assert "no data today" in error
    assert not bare.processes()
    assert not bare.ports()


def test_a_process_that_is_never_ready(bare: Stack) -> None:
    error = refused(bare, """
        resources.Process("web", {
            "command": ["python", "-m", "http.server", "-b", "$(HOST)", "$(PORT)"],
            "health": {"path": "/no-such-page", "timeoutSeconds": 2}})
    """, at="up")  # fmt: skip
    assert "web-0 is not ready after 2 s: /no-such-page answers 404" in error
    assert "File not found" in error
    assert not bare.processes()
    assert not bare.ports()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 30 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full(project: Callable[..., Any], small_disk: Path) -> None:
    stack = light.make(project)
    stack.configure({"mlops:dataDir": str(small_disk)})
    output = " ".join(stack.up(expect_success=False).split())
    assert "MiB are free" in output
    assert "free disk space, or set mlops:dataDir to another disk" in output
    stack.destroy()
    assert list(small_disk.iterdir()) == []


def test_an_update_while_another_is_under_way(project: Callable[..., Any]) -> None:
    stack = light.make(project, HEAD + dedent("""
        resources.Run("job", {"command": ["python", "-c", "import time; time.sleep(600)"]})
    """))  # fmt: skip
    first = stack.start("up", "--yes", "--skip-preview")
    assert first.reached("Run job creating")
    until(lambda: stack.programs().get("job:job"))
    output = stack.up(expect_success=False)
    assert "the stack is currently locked" in output
    assert "pulumi cancel" in output
    first.interrupt()
    assert "interrupted" in first.wait()
    assert not stack.processes()
