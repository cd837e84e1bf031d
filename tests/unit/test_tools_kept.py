"""What is told of a stack whose protected data was kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import stack as tool
from kept import message, retained_resources

ROOT = Path(tool.__file__).parents[1]
HEAD = "urn:pulumi:prod::shop::"
STACK = {"urn": f"{HEAD}pulumi:pulumi:Stack::shop-prod", "type": "pulumi:pulumi:Stack"}


def resource(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"urn": f"{HEAD}{kind}::{name}", "type": kind, "parent": STACK["urn"], **more}


PROVIDER = resource("pulumi:providers:kubernetes", "kubernetes")
OWNER = resource("mlops:kubernetes:NamespaceOwner", "namespace-owner")
COMPONENT = resource("mlops:index:ArtifactStore", "store")
CLAIM = resource(
    "kubernetes:core/v1:PersistentVolumeClaim", "store-data", parent=COMPONENT["urn"],
    provider=f"{PROVIDER['urn']}::an-id", dependencies=[OWNER["urn"]], protect=True,
    retainOnDelete=True,
    outputs={"metadata": {"name": "store-data", "namespace": "team"}},
)  # fmt: skip
LEFT = [STACK, PROVIDER, OWNER, COMPONENT, CLAIM]


def test_data_and_what_it_needs_is_all_that_is_left() -> None:
    (kept,) = retained_resources(LEFT)
    assert kept.description == "PersistentVolumeClaim store-data in namespace team"
    assert kept.by_input
    (plain,) = retained_resources([*LEFT[:-1], {**CLAIM, "outputs": {}}])
    assert plain.description == "PersistentVolumeClaim store-data"


@pytest.mark.parametrize("left", [
    [*LEFT, resource("kubernetes:apps/v1:Deployment", "tool")],
    [*LEFT[:-1], {**CLAIM, "protect": False}],
    [],
], ids=["something else is up", "nothing is protected", "nothing is there"])  # fmt: skip
def test_a_stack_that_is_up_or_gone_keeps_nothing(left: Any) -> None:
    assert retained_resources(left) == []


def test_it_is_said_how_to_go_on_and_how_to_delete_it() -> None:
    text = message("prod", retained_resources(LEFT))
    assert "PersistentVolumeClaim store-data in namespace team" in text
    for part in ("`make up STACK=prod`", "`retain: false`", "stacks/Pulumi.prod.yaml"):
        assert part in text
    assert text.index("`retain: false`") < text.rindex("make up") < text.index("make down")


def test_protection_by_the_user_is_not_an_input() -> None:
    """`retain: false` was advised, also where it was false already."""
    own = resource("mlops:local:Volume", "my data", parent=COMPONENT["urn"], protect=True)
    text = message("prod", retained_resources([STACK, COMPONENT, own]))
    assert "retain: false" not in text
    assert f"`pulumi state unprotect --yes -s prod '{own['urn']}'`" in text
    both = message("prod", retained_resources([*LEFT, own]))
    assert "To delete PersistentVolumeClaim store-data in namespace team, in this order" in both
    assert "To delete Volume my data, which the program or" in both


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stack on a cluster whose state has these resources, pulumi's commands recorded."""
    monkeypatch.setattr(tool, "PROJECT", tmp_path)
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: shop\n")
    (tmp_path / "stacks/Pulumi.prod.yaml").write_text("config: {mlops:target: kubernetes}\n")
    ran: list[list[str]] = []

    def state(left: list[dict[str, Any]]) -> list[list[str]]:
        answers = {
            "ls": [{"name": "prod"}],
            "output": {"tracking_url": "http://tracking.team.svc"},
            "export": {"deployment": {"resources": left}},
        }

        def checked(arguments: list[str], env: object) -> str:
            ran.append(arguments)
            return json.dumps(answers.get(arguments[1]))

        monkeypatch.setattr(tool, "checked", checked)
        return ran

    monkeypatch.setattr(tool, "run", lambda command, env, cwd=None: ran.append(command) or 0)
    return state


def test_down_spares_what_is_protected_and_says_so(backend: Any, capsys: Any) -> None:
    ran = backend(LEFT)
    assert tool.down("prod", [], {}) == 0
    (destroy,) = [command for command in ran if "destroy" in command]
    assert "--exclude-protected" in destroy
    assert not [command for command in ran if "rm" in command]
    told_ = capsys.readouterr().err
    assert "prod is down. Retained: " in told_
    assert "`make up STACK=prod` uses them again" in told_
    assert "store-data in namespace team" in told_


def test_down_forgets_a_stack_that_keeps_nothing(backend: Any, capsys: Any) -> None:
    ran = backend([])
    assert tool.down("prod", [], {}) == 0
    assert ["stack", "rm", "--yes", "--preserve-config", "prod"] in ran
    assert "prod is down. Kept: stacks/Pulumi.prod.yaml; the namespace" in capsys.readouterr().err


def test_addresses_of_what_is_down_are_not_shown(backend: Any, capsys: Any) -> None:
    backend(LEFT)
    assert tool.status("prod", [], {}) == 0
    text = capsys.readouterr().out
    assert "prod is not up; `make up STACK=prod` provisions it" in text
    assert "store-data in namespace team" in text
    assert "tracking.team" not in text
    backend([*LEFT, resource("kubernetes:apps/v1:Deployment", "tool")])
    tool.status("prod", [], {})
    assert "tracking.team" in capsys.readouterr().out


@pytest.mark.parametrize(("target", "refused"), [("local", True), ("kubernetes", False)])
def test_only_what_runs_from_the_environment_keeps_it(
    tmp_path: Path, target: str, refused: bool
) -> None:
    """`make clean` beside the kept data of a cluster."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("cluster"))
    state = tmp_path / ".mlops/state/.pulumi/stacks/shop"
    for folder in (state, tmp_path / "stacks", tmp_path / "build"):
        folder.mkdir(parents=True)
    (state / "prod.json").touch()
    (tmp_path / "stacks/Pulumi.prod.yaml").write_text(f"config:\n  mlops:target: {target}\n")
    outer = {"STACK", "PULUMI_STACK", "MAKEFLAGS", "MAKEOVERRIDES"}
    done = subprocess.run(
        ["make", "-s", "clean", f"PY={sys.executable}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={key: value for key, value in os.environ.items() if key not in outer},
    )  # fmt: skip
    assert (done.returncode != 0) is refused, done.stderr
    assert (tmp_path / "build").exists() is refused
    assert ("make down STACK=prod" in done.stderr) is refused
