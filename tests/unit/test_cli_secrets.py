"""`mlops secrets` with a `pulumi` that tells a state."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pulumi_mlops.cli import main

VALUE = "the-secret-of-the-stack"
MARK = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
STACK = "config:\n  mlops:target: kubernetes\n  mlops:kubernetes:\n    render_to: clusters/ml\n"


def stored(name: str, content: dict[str, str], **more: Any) -> dict[str, Any]:
    secret = {**MARK, "plaintext": json.dumps(content)}
    inputs = {"name": name, "namespace": "team", "labels": {"app": "x"}, "stringData": secret}
    return {"type": "mlops:kubernetes:StoredSecret", "inputs": inputs, **more}


STATE = {
    "deployment": {
        "resources": [
            stored("z-secrets", {"B": VALUE, "A": "other"}),
            stored("a-files", {"auth.ini": f"[mlops]\npassword = {VALUE}\n"}),
            stored("a-old", {"A": "old"}, delete=True),
            {"type": "mlops:index:GeneratedSecret", "inputs": {}, "outputs": {"value": VALUE}},
        ]
    }
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("PULUMI_STACK", "STACK"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "Pulumi.yaml").write_text("name: p\n")
    (tmp_path / "Pulumi.prod.yaml").write_text(STACK)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", os.fspath(tmp_path / "bin"))
    return tmp_path


def pulumi(project: Path, state: Any, *, errors: str = "", code: int = 0) -> None:
    program = project / "bin" / "pulumi"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        f"open({os.fspath(project / 'asked')!r}, 'w').write(os.getcwd() + ' '.join(sys.argv[1:]))\n"
        f"sys.stdout.write({json.dumps(state)!r})\nsys.stderr.write({errors!r})\nsys.exit({code})\n"
    )
    program.chmod(0o755)


def test_they_are_manifests(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pulumi(project, STATE)
    assert main(["secrets", "--stack", "prod"]) == 0
    files, secrets = yaml.safe_load_all(capsys.readouterr().out)
    assert [files["metadata"]["name"], secrets["metadata"]["name"]] == ["a-files", "z-secrets"]
    assert secrets == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "z-secrets", "namespace": "team", "labels": {"app": "x"}},
        "type": "Opaque",
        "data": {"A": "b3RoZXI=", "B": base64.b64encode(VALUE.encode()).decode()},
    }
    assert base64.b64decode(files["data"]["auth.ini"]).decode().endswith(f"= {VALUE}\n")
    asked = (project / "asked").read_text()
    assert asked.startswith(os.fspath(project))
    assert "stack export --show-secrets --stack prod" in asked


def test_as_json_they_are_one_list(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pulumi(project, STATE)
    assert main(["secrets", "--json", "--stack", "prod"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["apiVersion"], found["kind"], len(found["items"])) == ("v1", "List", 2)


def test_a_terminal_sees_names_alone(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pulumi(project, STATE)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    encoded = base64.b64encode(VALUE.encode()).decode()
    for flags in ([], ["--json"]):
        assert main(["secrets", "--stack", "prod", *flags]) == 0
        told = capsys.readouterr().out
        assert "z-secrets" in told
        assert "auth.ini" in told
        assert VALUE not in told
        assert encoded not in told
    assert main(["secrets", "--stack", "prod", "--show"]) == 0
    assert encoded in capsys.readouterr().out


def test_a_stack_that_applies_its_own_has_none(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pulumi(project, {"deployment": {}})
    assert main(["secrets", "--stack", "prod"]) == 1
    assert (
        "without mlops:kubernetes.render_to, `pulumi up` applies them itself"
        in capsys.readouterr().err
    )


def test_a_state_that_does_not_open_is_told_without_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pulumi(project, STATE, errors="warning: old\nerror: incorrect passphrase\n", code=255)
    assert main(["secrets", "--stack", "prod"]) == 1
    told = capsys.readouterr()
    assert told.err == (
        "error: pulumi cannot read the state of prod: incorrect passphrase (see `mlops doctor`)\n"
    )
    assert VALUE not in told.out


def test_no_engine_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["secrets", "--stack", "prod"]) == 1
    assert "pulumi is not on PATH" in capsys.readouterr().err


def test_a_stack_of_this_machine_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / ".mlops" / "dev" / "programs").mkdir(parents=True)
    assert main(["secrets", "--stack", "dev"]) == 2
    assert "dev renders no manifests" in capsys.readouterr().err
