"""`mlops doctor`: each check against a real machine in the state that it is for."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulumi_mlops.cli import checks_engine, checks_machine, doctor, main
from pulumi_mlops.cli.checks import Finding, guarded, ok, output_of, without_credentials, wrong
from pulumi_mlops.files import remove_tree
from pulumi_mlops.stackdir import StackDir
from pulumi_mlops.targets.local.host import launch, ports
from pulumi_mlops.targets.local.operations import checks as checks_stack
from pulumi_mlops.targets.local.operations import checks_machine as local_machine

from .cli_fixtures import SECRET, end, kill_supervisor, made_stack, server, started, until

OWN_BIN = Path(sys.prefix) / "bin"
SETTINGS = (
    "PULUMI_STACK", "STACK", "PULUMI_BACKEND_URL", "PULUMI_ACCESS_TOKEN", "PULUMI_HOME",
    "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE",
)  # fmt: skip


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def root(project: Path) -> Iterator[StackDir]:
    with made_stack(project) as root:
        yield root


def _verdicts(checks: list[Finding]) -> dict[str, str]:
    return {check.name: check.verdict for check in checks}


def _executable(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def test_the_engine_and_its_language_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (none,) = checks_engine.engine()
    assert (none.verdict, none.name) == ("wrong", "engine")
    pulumi = _executable(tmp_path / "bin" / "pulumi", "echo v3.100.0")
    (old,) = checks_engine.engine()
    assert old.verdict == "wrong"
    assert "3.200" in old.fix
    _executable(pulumi, "echo v3.250.0")
    assert _verdicts(checks_engine.engine()) == {"engine": "ok", "language host": "wrong"}
    _executable(tmp_path / "bin" / "pulumi-language-python", "")
    assert _verdicts(checks_engine.engine()) == {"engine": "ok", "language host": "ok"}
    _executable(pulumi, "echo broken https://u:pw@host/x >&2; exit 3")
    (broken,) = checks_engine.engine()
    assert broken.verdict == "wrong"
    assert "https://host" in broken.message
    assert "pw" not in broken.message


def test_back_end_and_passphrase(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _verdicts(checks_engine.backend(project, "dev")) == {"backend": "warn"}
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}/state")
    assert _verdicts(checks_engine.backend(project, "dev")) == {"backend": "wrong"}
    (tmp_path / "state").mkdir()
    found = checks_engine.backend(project, "dev")
    assert _verdicts(found) == {"backend": "ok", "passphrase": "warn"}
    file = tmp_path / "passphrase"
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE_FILE", str(file))
    assert _verdicts(checks_engine.backend(project, "dev"))["passphrase"] == "wrong"
    file.write_text(SECRET)
    file.chmod(0o644)
    assert _verdicts(checks_engine.backend(project, "dev"))["passphrase"] == "warn"
    file.chmod(0o600)
    found = checks_engine.backend(project, "dev")
    assert _verdicts(found)["passphrase"] == "ok"
    assert SECRET not in str(found)


def test_a_stack_with_a_key_of_its_own_needs_no_passphrase(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://bucket/state?key=hidden")
    (project / "Pulumi.yaml").write_text("name: p\n")
    (project / "Pulumi.prod.yaml").write_text("secretsprovider: awskms://alias/x\n")
    found = checks_engine.backend(project, "prod")
    assert _verdicts(found) == {"backend": "ok", "passphrase": "ok"}
    assert "hidden" not in str(found)


def test_the_login_counts(tmp_path: Path, project: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "credentials.json").write_text('{"current": "https://api.pulumi.com"}')
    (found,) = checks_engine.backend(project, "dev")
    assert found.verdict == "ok"
    assert "pulumi login" in found.message


def _pulumi_yaml(project: Path, path: str) -> None:
    text = f"name: p\nplugins:\n  providers:\n    - {{name: mlops, path: {path}}}\n"
    (project / "Pulumi.yaml").write_text(text)


def test_the_plugin_is_started_and_asked(project: Path) -> None:
    _pulumi_yaml(project, str(OWN_BIN))
    found = checks_engine.plugin(project)
    assert _verdicts(found) == {"project": "ok", "plugin": "ok"}
    assert "resource types" in found[-1].message


def test_a_plugin_that_is_not_there_or_does_not_start(project: Path, tmp_path: Path) -> None:
    _pulumi_yaml(project, ".venv/bin")
    (missing,) = checks_engine.plugin(project)
    assert missing.verdict == "wrong"
    assert str(OWN_BIN) in missing.fix
    fails = "echo 'ModuleNotFoundError: no grpc' >&2; exit 1"
    _executable(project / ".venv" / "bin" / "pulumi-resource-mlops", fails)
    found = checks_engine.plugin(project)
    assert [check.verdict for check in found] == ["ok", "warn", "wrong"]
    assert "no grpc" in found[-1].message


def test_this_machine_runs_what_the_tests_run_on() -> None:
    found = [
        *checks_machine.python(),
        *local_machine.uv(),
        *local_machine.haproxy(),
        *local_machine.disk(Path("/")),
    ]
    names = {"Python": "ok", "uv": "ok", "HAProxy": "ok"}
    assert {name: _verdicts(found)[name] for name in names} == names
    assert _verdicts(local_machine.system())["system"] == "ok"


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ((3, 10, 18), "wrong"),
        ((3, 11, 0), "ok"),
        ((3, 13, 9), "ok"),
        ((3, 14, 0), "wrong"),
    ],
)
def test_python_versions(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], verdict: str
) -> None:
    monkeypatch.setattr(checks_machine.sys, "version_info", (*version, "final", 0))
    (found,) = checks_machine.python()
    assert found.verdict == verdict


def test_an_index_that_does_not_answer_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [each for each in os.environ if each.startswith(("UV_", "HTTP", "http"))]:
        monkeypatch.delenv(name)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, and not listening: nobody else can take it
        address = f"http://user:{SECRET}@127.0.0.1:{closed.getsockname()[1]}/simple/{SECRET}"
        monkeypatch.setenv("UV_DEFAULT_INDEX", address)
        monkeypatch.setenv("UV_NO_CONFIG", "1")
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        (found,) = local_machine.index()
    assert found.verdict == "wrong"
    assert "http://127.0.0.1" in found.message
    assert SECRET not in str(found)
    assert "UV_DEFAULT_INDEX" in found.fix


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://u:p@host:8/a?token=t, no", "at https://host no"),
        ("`file:///home/x`", "`file://`"),
        ("postgresql+psycopg2://m:s@h/db", "postgresql+psycopg2://h"),
        ("no address", "no address"),
    ],
)
def test_addresses_lose_what_may_be_secret(text: str, shown: str) -> None:
    assert without_credentials(text).replace(",", "") == shown.replace(",", "")


def test_a_supervisor_and_its_programs(root: StackDir) -> None:
    assert _verdicts(checks_stack.supervisor(root)) == {"supervisor": "ok"}
    started(root, server(root, "p-server-0"))
    until(lambda: _verdicts(checks_stack.supervisor(root)) == {"supervisor": "ok"})
    assert _verdicts(checks_stack.sockets(root)) == {"sockets": "ok"}
    assert _verdicts(checks_stack.own_ports(root)) == {"ports": "ok"}
    kill_supervisor(root)
    (found,) = checks_stack.supervisor(root)
    assert (found.verdict, found.fix) == ("wrong", "run `pulumi up`")


@pytest.mark.parametrize(
    ("env", "verdicts"),
    [
        ({}, {}),
        ({"HTTPS_PROXY": "http://proxy:3128"}, {}),
        ({"https_proxy": "http://proxy:3128"}, {"proxy": "warn"}),
        ({"http_proxy": "http://proxy:3128", "NO_PROXY": "127.0.0.1"}, {"proxy": "warn"}),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "corp,127.0.0.1"}, {}),
        ({"grpc_proxy": "http://proxy:3128", "no_grpc_proxy": "corp"}, {"proxy": "warn"}),
    ],
)
def test_a_proxy_of_the_shell_that_applies_to_the_engine(
    env: dict[str, str], verdicts: dict[str, str]
) -> None:
    found = checks_engine.proxy(env)
    assert _verdicts(found) == verdicts
    assert all("127.0.0.1,localhost,::1" in each.fix for each in found)


def test_a_port_that_something_else_holds(root: StackDir) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.close()
        ports.claim(root, "p-server-0/http", port)
        with socket.create_server(("127.0.0.1", port)):
            (found,) = checks_stack.own_ports(root)
    assert found.verdict == "wrong"
    assert f"port {port} of p-server-0/http is held by" in found.message
    assert str(os.getpid()) in found.message


def test_many_claims_of_deleted_stacks_are_one_short_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def claims(count: int) -> dict[Path, tuple[Path, str]]:
        return {
            tmp_path / "claims of ports" / str(20000 + each): (tmp_path / f"gone-{each}", "p/http")
            for each in range(count)
        }

    monkeypatch.setattr(ports, "claims", lambda: claims(2))
    (found,) = checks_stack.claims()
    folder = tmp_path / "claims of ports"
    assert found.fix == f"rm '{folder}/20000' '{folder}/20001'"
    monkeypatch.setattr(ports, "claims", lambda: claims(200))
    (found,) = checks_stack.claims()
    assert found.message.startswith("200 of stacks that no longer exist: ")
    assert found.message.endswith(" and 195 more")
    assert len(found.message.split(", ")) == 5 and "20000" not in found.fix


def test_claims_of_a_stack_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = StackDir(tmp_path / "gone" / ".mlops" / "dev")
    port = ports.claim(gone, "p-server-0/http")
    (claim,) = [file for file, (stack, _) in ports.claims().items() if stack == gone.path]
    try:
        assert str(gone.path) not in str(checks_stack.claims())
        shutil.rmtree(gone.path)
        # Other stacks of this machine may be gone as well.
        of_the_test = {claim: (gone.path, "p-server-0/http")}
        monkeypatch.setattr(ports, "claims", lambda: of_the_test)
        (found,) = checks_stack.claims()
        assert found.verdict == "warn"
        assert str(gone.path) in found.message
        assert str(port) in found.fix
    finally:
        claim.unlink()
        remove_tree(gone.runtime)


def test_what_a_stack_left_behind(root: StackDir, tmp_path: Path) -> None:
    gone = tmp_path / "gone" / ".mlops" / "dev"
    processes = [
        subprocess.Popen(["sleep", "600"], env={"PATH": os.environ["PATH"], launch.COOKIE: cookie})
        for cookie in (f"{gone}:p-server-0", f"{root.path}:job:p-job", f"{root.path}:uv:p-env")
    ]
    try:
        told = [each for each in checks_stack.leftovers() if str(tmp_path) in each.message]
        assert {each.verdict for each in told} == {"warn"}
        assert {each.fix for each in told} == {f"kill {each.pid}" for each in processes[:2]}
        root.folder("jobs", "p-job")
        told = [each for each in checks_stack.leftovers() if str(tmp_path) in each.message]
        assert [each.fix for each in told] == [f"kill {processes[0].pid}"]
    finally:
        for process in processes:
            end(process)


def test_a_check_that_fails_itself_is_a_finding() -> None:
    def fails() -> list[Finding]:
        raise RuntimeError("at https://user:pw@host/x")

    (found,) = guarded("thing", fails)
    assert (found.name, found.verdict) == ("thing", "wrong")
    assert "pw" not in found.message


def test_commands_that_are_missing_or_slow() -> None:
    assert output_of(["/no/such/program"], 60)[0] is None
    code, _, errors = output_of([sys.executable, "-c", "import time; time.sleep(60)"], 0.1)
    assert (code, errors) == (None, "no answer within 0.1 s")


@pytest.mark.parametrize(("bad", "code"), [(True, 1), (False, 0)])
def test_the_round(
    bad: bool,
    code: int,
    root: StackDir,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """How findings are shown; the checks themselves are tested above."""
    made = wrong("thing", "is broken", "mend it") if bad else ok("thing", "is whole")
    plan = doctor.checkers

    def cheap(*where: object) -> dict[str, object]:
        assert list(plan(*where))[-1] == "leftovers"  # type: ignore[arg-type]
        return {"thing": lambda: [made]}

    monkeypatch.setattr(doctor, "checkers", cheap)
    assert main(["doctor", "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert found["healthy"] is not bad
    assert [check["name"] for check in found["checks"]] == ["stack", "thing"]
    assert main(["doctor"]) == code
    out = capsys.readouterr().out
    assert str(root.path) in out
    assert ("fix: mend it" in out) is bad
    assert out.endswith("1 wrong\n" if bad else "Everything works.\n")


def test_without_a_stack_the_machine_is_checked_all_the_same(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names: list[str] = []
    plan = doctor.checkers

    def cheap(*where: object) -> dict[str, object]:
        names.extend(plan(*where))  # type: ignore[arg-type]
        return {}

    monkeypatch.setattr(doctor, "checkers", cheap)
    assert main(["doctor", "--stack", "dev"]) == 0
    assert "plugin" in names
    assert "supervisor" not in names
    assert "1 warning" in capsys.readouterr().out
