"""`mlops service`: a systemd user unit. systemctl is a stand-in that records its arguments."""

from __future__ import annotations

import configparser
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulumi_mlops.cli import main
from pulumi_mlops.stackdir import StackDir
from pulumi_mlops.targets.local.host import health
from pulumi_mlops.targets.local.host.supervisor import Supervisor

from .cli_fixtures import kill_supervisor, made_stack, server, started, until


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StackDir]:
    project = tmp_path / "my 100% project"
    project.mkdir()
    monkeypatch.chdir(project)
    for name in ("PULUMI_STACK", "STACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with made_stack(project) as root:
        yield root


def systemctl(folder: Path, code: int) -> Path:
    """A systemctl and a loginctl on PATH; the calls of the first."""
    calls = folder / "calls"
    (folder / "bin").mkdir()
    for name, text in (
        ("systemctl", f'echo "$@" >>{shlex.quote(str(calls))}; echo no bus >&2; exit {code}'),
        ("loginctl", "echo no"),
    ):
        file = folder / "bin" / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
    return calls


def exec_start(unit: str) -> list[str]:
    parser = configparser.RawConfigParser()
    parser.read_string(unit)
    return [
        word.replace("%%", "%").replace("$$", "$")
        for word in shlex.split(parser["Service"]["ExecStart"])
    ]


def test_install_and_uninstall(
    root: StackDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root.folder("programs", "web-0")
    calls = systemctl(tmp_path, 0)
    assert main(["service", "install"]) == 0
    (unit,) = (tmp_path / "config" / "systemd" / "user").iterdir()
    assert unit.name == f"mlops-dev-{root.key}.service"
    assert calls.read_text().splitlines() == [
        "--user show-environment", "--user daemon-reload", f"--user enable {unit.name}",
    ]  # fmt: skip
    assert "loginctl enable-linger" in capsys.readouterr().out
    assert exec_start(unit.read_text())[0] == sys.executable
    assert exec_start(unit.read_text())[-1] == str(root.path)
    assert main(["service", "print"]) == 0
    assert capsys.readouterr().out == unit.read_text()
    assert main(["service", "uninstall"]) == 0
    assert not unit.exists()
    assert f"--user disable {unit.name}" in calls.read_text()
    assert main(["service", "uninstall"]) == 1
    assert "dev has no unit" in capsys.readouterr().err


def test_a_machine_without_systemd(
    root: StackDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root.folder("programs", "web-0")
    systemctl(tmp_path, 1)
    assert main(["service", "install"]) == 1
    error = capsys.readouterr().err
    assert "this machine has no systemd user manager" in error and "no bus" in error
    assert "`mlops service start`" in error
    assert not (tmp_path / "config").exists()


def test_the_command_of_the_unit_starts_everything(
    root: StackDir, capsys: pytest.CaptureFixture[str]
) -> None:
    program = started(root, server(root, "web-0"))
    main(["service", "print"])
    command = exec_start(capsys.readouterr().out)
    for start in (lambda: subprocess.run(command, cwd="/", check=True),
                  lambda: main(["service", "start"])):  # fmt: skip
        kill_supervisor(root)
        start()
        until(lambda: health.probe(health.HealthCheck(**(program.health or {}))) is None)
        pid = Supervisor(root).pid()
        start()
        assert Supervisor(root).pid() == pid, "what runs is left as it is"


def test_an_environment_without_services(
    root: StackDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["service", "start"]) == 1
    assert "dev has no services" in capsys.readouterr().err
