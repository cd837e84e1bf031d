"""`mlops connect` and the doctor of a stack on a cluster."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import sys
import threading
from pathlib import Path

import pytest

from pulumi_mlops.cli import main
from pulumi_mlops.cli.selection import find_stack
from pulumi_mlops.plugin.errors import UnreachableError
from pulumi_mlops.targets.kubernetes.operations import client, connect, inventory

from .cluster_fixtures import FakeApi, deployment, labels, made_project, metadata, service

PASSWORD = "it's $ecret"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    monkeypatch.chdir(made_project(tmp_path))
    monkeypatch.setenv("PULUMI_STACK", "prod")
    made = FakeApi()
    monkeypatch.setattr(inventory, "ClusterApi", lambda where: made)
    deployment(made, "shop-tracking-server")
    deployment(made, "shop-x-endpoint-route", component="route")
    service(made, "shop-x-endpoint-v1", cluster_ip="None")
    service(made, "shop-tracking-database-server", component="database")
    return made


@pytest.fixture
def client_env(api: FakeApi, tmp_path: Path) -> None:
    file = tmp_path / ".mlops" / "prod" / "files" / "client.env"
    file.parent.mkdir(parents=True)
    quoted = PASSWORD.replace("'", "'\\''")
    file.write_text(
        "# Made by pulumi-mlops; `source` it to work with the platform.\n"
        "export MLFLOW_TRACKING_URI='http://shop-tracking-server.team.svc:8080'\n"
        f"export AWS_SECRET_ACCESS_KEY='{quoted}'\n"
    )


def _interrupted(arguments: list[str]) -> int:
    """Its exit code when Ctrl-C ends it."""
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        return main(arguments)
    finally:
        timer.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_it_shows_urls_and_variables_and_no_secret(
    api: FakeApi, client_env: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _interrupted(["connect"]) == 0
    first = capsys.readouterr()
    assert set(api.tunnels) == {"shop-tracking-server", "shop-x-endpoint-route"}
    url = f"http://{api.tunnels['shop-tracking-server']}"
    assert f"export MLFLOW_TRACKING_URI={url}\n" in first.out
    assert f"tracking    {url}" in first.out
    assert f"x-endpoint  http://{api.tunnels['shop-x-endpoint-route']}" in first.out
    assert "ecret" not in first.out + first.err
    # The same once more: the ports are the same.
    assert _interrupted(["connect"]) == 0
    assert capsys.readouterr().out == first.out


def test_credentials_are_shown_or_kept_for_their_owner_only_when_asked(
    api: FakeApi, client_env: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert _interrupted(["connect", "--env"]) == 0
    told = capsys.readouterr().out
    assert client.parse_exports(told)["AWS_SECRET_ACCESS_KEY"] == PASSWORD
    file = tmp_path / "platform.env"
    modes: list[int] = []
    monkeypatch.setattr(
        connect, "_until_interrupted", lambda _: modes.append(stat.S_IMODE(file.stat().st_mode))
    )
    assert main(["connect", "--env", str(file)]) == 0
    assert modes == [0o600]
    assert not file.exists(), "its addresses lead nowhere any more"
    assert "ecret" not in capsys.readouterr().out


def test_a_command_has_the_variables_and_its_exit_code_counts(
    api: FakeApi, client_env: None, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    script = (
        "import json, os, sys\n"
        f"open({str(told)!r}, 'w').write(json.dumps([sys.argv[1:], dict(os.environ)]))\n"
        "raise SystemExit(7)"
    )
    url = "http://shop-x-endpoint-route.team.svc:8080/invocations"
    command = [sys.executable, "-c", script, "-d", url, "http://elsewhere.team.svc:8080"]
    assert main(["connect", "--stack", "prod", "--", *command]) == 7
    arguments, env = json.loads(told.read_text())
    here = f"http://{api.tunnels['shop-x-endpoint-route']}/invocations"
    assert arguments == ["-d", here, "http://elsewhere.team.svc:8080"]
    assert env["AWS_SECRET_ACCESS_KEY"] == PASSWORD
    assert env["MLFLOW_TRACKING_URI"] == f"http://{api.tunnels['shop-tracking-server']}"


def test_a_command_that_is_not_there(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connect", "--", "no-such-command"]) == 2
    assert "no-such-command cannot be run" in capsys.readouterr().err


def test_where_pulumi_ran_elsewhere_the_cluster_knows_the_variables(api: FakeApi) -> None:
    marks = labels("shop-x-job", "job")
    uri = "http://shop-tracking-server.team.svc.cluster.local:8080"
    api.add("ConfigMap", {"metadata": metadata("e", marks),
                          "data": {"MLFLOW_TRACKING_URI": uri, "OTHER": "x"}})  # fmt: skip
    api.add("Secret", {"metadata": metadata("s", marks),
                       "data": {"AWS_SECRET_ACCESS_KEY": "c2VjcmV0"}})  # fmt: skip
    stack = find_stack(Path.cwd(), "prod")
    found = client.variables(api, stack)  # type: ignore[arg-type]
    assert found == {"MLFLOW_TRACKING_URI": uri, "AWS_SECRET_ACCESS_KEY": "secret"}
    local = client.replace_in_variables(
        found, {"shop-tracking-server.team.svc:8080": "127.0.0.1:1"}
    )
    assert local["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:1"


def test_what_has_no_pod_opens_later(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened, tries = api.tunnel, []

    def tunnel(service: str, port: int, local: int | None = None) -> str:
        if service == "shop-x-endpoint-route" and not tries:
            tries.append(service)
            raise UnreachableError("no pod is ready")
        return opened(service, port, local)

    monkeypatch.setattr(api, "tunnel", tunnel)
    monkeypatch.setattr(connect, "_RETRY_SECONDS", 0.05)
    assert _interrupted(["connect"]) == 0
    shown = capsys.readouterr()
    assert "opens when a pod is ready" in shown.out
    assert "x-endpoint is open: http://127.0.0.1:" in shown.err


def test_a_port_that_is_taken_is_left_alone() -> None:
    port = connect.port_of("a name", set())
    assert connect.port_of("a name", set()) == port
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        assert connect.port_of("a name", set()) != port


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["platform-tracking-server", "platform-x-endpoint-route"], ["tracking", "x-endpoint"]),
        (["tracking-server"], ["tracking"]),
        (["a-server", "a-route"], ["a-server", "a-route"]),
        (["p-a-server", "p-a-b-server"], ["a", "a-b"]),
    ],
)
def test_short_names_tell_them_apart(names: list[str], short: list[str]) -> None:
    assert list(connect.short_names(names).values()) == short


def test_a_stack_of_this_machine_needs_no_tunnels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".mlops" / "dev" / "programs").mkdir(parents=True)
    assert main(["connect", "--stack", "dev"]) == 2
    assert "reached from this machine without tunnels" in capsys.readouterr().err
