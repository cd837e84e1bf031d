"""What an upgrade of the package would do to stacks that earlier versions brought up."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import pulumi_mlops

sys.path.insert(0, str(Path(__file__).parent))
from api_server import ApiServer, objects_of
from replay import HERE, PACKAGE, PROJECT, VENV, Allowed, Project, Step, fill, read, violations

BIN = Path(sys.executable).parent
STATES = sorted((HERE / "recorded").glob("*/*.json*"))
ALLOWED = (
    Allowed(
        "mlops:local:Process",
        frozenset({"code", "command", "env", "environment", "fetched"}),
        "A model server behind a route: the new one is started, the route moves to it, and the old "
        "one is stopped last. It has no data.",
    ),
    Allowed(
        "mlops:local:Environment",
        frozenset({"requirements"}),
        "Other pinned packages are installed into a new folder beside the old one, which is "
        "deleted when nothing runs from it. It has no data.",
    ),
    Allowed(
        "kubernetes:batch/v1:Job",
        frozenset({"metadata.name", "spec"}),
        "A job that runs other code is another Job with another name, so that the deletion of the "
        "old one does not meet the new one. The old one has ended, and has no data.",
        needed=frozenset({"metadata.name"}),
        either_order=True,
    ),
    Allowed(
        "mlops:kubernetes:Ready",
        frozenset({"kind", "name"}),
        "The wait for such a job. It makes and deletes nothing on the cluster.",
        needed=frozenset({"name"}),
        either_order=True,
    ),
)
STAND_IN = HERE.parent / "kubernetes" / "provider"


@pytest.mark.engine
@pytest.mark.parametrize("file", STATES, ids=lambda file: f"{file.parent.name}-{case_of(file)}")
def test_an_upgrade_keeps_what_is_there(file: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(config_of(file).read_text())["config"]
    plugins = {"kubernetes": kubernetes_plugin()} if "mlops:kubernetes" in config else {}
    project = Project(tmp_path / "project", BIN, case_of(file), plugins)
    project.env["STANDIN_PYTHON"] = sys.executable
    folders = {
        PROJECT: project.folder,
        PACKAGE: Path(pulumi_mlops.__file__).parent,
        VENV: Path(sys.prefix),
    }
    project.config_file.write_text(fill(config_of(file).read_text(), folders))
    text = fill(read(file), folders)
    project.init()
    project.import_state(text)
    recorded = json.loads(text)["deployment"]["resources"]
    server = ApiServer(objects_of(recorded, f"platform/{project.stack}"))
    if plugins:
        server.write_kubeconfig(project.kubeconfig)
    with server.running():
        steps = project.preview()
    assert violations(recorded, steps, ALLOWED) == []
    # A preview looks, and changes nothing: neither on this machine nor on the cluster.
    here = project.folder / ".mlops" / project.stack
    assert {each.name for each in here.glob("*")} <= {"images"}
    assert processes_of(tmp_path) == []
    assert server.refused == []


def test_there_are_states_of_each_target() -> None:
    found = {case_of(file).partition("-")[0] for file in STATES}
    assert found == {"kubernetes", "local", "rendered"}


def kubernetes_plugin() -> Path:
    """The folder of the official plugin, where there is one on PATH, else of the stand-in."""
    official = shutil.which("pulumi-resource-kubernetes")
    return Path(official).parent if official else STAND_IN


def case_of(file: Path) -> str:
    return file.name.partition(".")[0]


def config_of(file: Path) -> Path:
    return file.with_name(f"Pulumi.{case_of(file)}.yaml")


def resources(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(read(file))["deployment"]["resources"]
    return found


def processes_of(folder: Path) -> list[str]:
    """The command lines of processes that a folder is named in."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if str(folder) in command or str(folder) in str(process.environ()):
                found.append(command)
        except psutil.Error:  # has ended
            continue
    return found


# The functions that judge a plan, on plans that would lose something.

VOLUME = "platform-tracking-database"
SERVER = "platform-doubler-endpoint-v1"


@pytest.fixture
def recorded() -> list[dict[str, Any]]:
    return resources(HERE / "recorded" / "0.1.0" / "local-small.json")


@pytest.fixture
def plan(recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As a preview without changes has it; the engine shows no default provider."""
    return [
        {"op": "same", "urn": each["urn"], "oldState": each, "newState": copy.deepcopy(each)}
        for each in recorded
        if each["type"] != "pulumi:providers:mlops"
    ]


def step(plan: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(each for each in plan if each["urn"].endswith(f"::{name}"))


def replaced(one: Step, *causes: str, delete_first: bool = False) -> list[dict[str, Any]]:
    """The steps of a replacement, as the engine orders them."""
    new = [
        {**one, "op": op, "replaceReasons": list(causes)}
        for op in ("create-replacement", "replace")
    ]
    old = {**one, "op": "delete-replaced", "newState": None}
    return [old, *reversed(new)] if delete_first else [*new, old]


def test_a_plan_without_changes_loses_nothing(
    recorded: list[dict[str, Any]], plan: list[dict[str, Any]]
) -> None:
    assert violations(recorded, plan) == []
    step(plan, VOLUME)["op"] = "update"
    assert violations(recorded, plan) == []


@pytest.mark.parametrize("delete_first", [False, True])
def test_a_replaced_volume_is_found(
    recorded: list[dict[str, Any]], plan: list[dict[str, Any]], delete_first: bool
) -> None:
    volume = step(plan, VOLUME)
    plan.remove(volume)
    plan += replaced(volume, "retain", delete_first=delete_first)
    (found,) = violations(recorded, plan, ALLOWED)
    assert "create-replacement" in found
    assert found.endswith(f"::{VOLUME} (because of retain)")


def test_a_deleted_resource_is_found(
    recorded: list[dict[str, Any]], plan: list[dict[str, Any]]
) -> None:
    volume = step(plan, VOLUME)
    volume |= {"op": "delete", "newState": None}
    assert violations(recorded, plan, ALLOWED) == [f"delete: {volume['urn']}"]


def test_a_name_that_changed_needs_an_alias(
    recorded: list[dict[str, Any]], plan: list[dict[str, Any]]
) -> None:
    volume = step(plan, VOLUME)
    old = volume["urn"]
    volume["urn"] = volume["newState"]["urn"] = old.replace(VOLUME, "platform-runs")
    # With an alias the engine knows what it was.
    assert violations(recorded, plan) == []
    volume |= {"op": "create", "oldState": None}
    assert violations(recorded, plan) == [f"not in the plan: {old}"]
    was = next(each for each in recorded if each["urn"] == old)
    plan.append({"op": "delete", "urn": old, "oldState": was, "newState": None})
    assert violations(recorded, plan) == [f"delete: {old}"]


def test_other_data_for_a_program_is_found(
    recorded: list[dict[str, Any]], plan: list[dict[str, Any]]
) -> None:
    server = step(plan, "platform-tracking-server")
    before = server["oldState"]["inputs"]["data"]
    server["newState"]["inputs"]["data"] = "/elsewhere"
    told = f"has other data, ['/elsewhere'] instead of ['{before}']: {server['urn']}"
    assert violations(recorded, plan) == [told]


@pytest.mark.parametrize("option", ["protect", "retainOnDelete"])
def test_lost_protection_is_found(
    recorded: list[dict[str, Any]], plan: list[dict[str, Any]], option: str
) -> None:
    volume = step(plan, VOLUME)
    volume["oldState"][option] = volume["newState"][option] = True
    assert violations(recorded, plan) == []
    del volume["newState"][option]
    assert violations(recorded, plan) == [f"loses {option}: {volume['urn']}"]


@pytest.mark.parametrize(
    ("doctored", "passes"),
    [
        (lambda one: replaced(one, "code"), True),
        (lambda one: replaced(one, "code", "environment"), True),
        (lambda one: replaced(one, "code", "ports"), False),
        (lambda one: replaced(one, "code", delete_first=True), False),
        (lambda one: [{**one, "op": "delete", "newState": None}], False),
    ],
)
def test_what_is_allowed_has_bounds(
    recorded: list[dict[str, Any]],
    plan: list[dict[str, Any]],
    doctored: Callable[[Step], list[dict[str, Any]]],
    passes: bool,
) -> None:
    server = step(plan, SERVER)
    plan.remove(server)
    plan += doctored(server)
    assert (violations(recorded, plan, ALLOWED) == []) is passes
    assert violations(recorded, plan) != []


@pytest.mark.parametrize(
    ("causes", "passes"),
    [
        (("metadata.name", "spec.template.spec.containers[0].image"), True),
        (("spec.template.spec.containers[0].image",), False),
        (("metadata.name", "metadata.namespace"), False),
    ],
)
@pytest.mark.parametrize("delete_first", [False, True])
def test_a_job_is_replaced_by_one_of_another_name(
    causes: tuple[str, ...], passes: bool, delete_first: bool
) -> None:
    state = {"type": "kubernetes:batch/v1:Job"}
    urn = "urn:pulumi:prod::platform::kubernetes:batch/v1:Job::platform-job"
    one = {"urn": urn, "oldState": state, "newState": state}
    steps = replaced(one, *causes, delete_first=delete_first)
    assert (violations([], steps, ALLOWED) == []) is passes


@pytest.mark.parametrize("type_", ["mlops:local:Volume", "pulumi:providers:kubernetes"])
def test_nothing_allows_to_replace_data_or_a_provider(type_: str) -> None:
    with pytest.raises(ValueError, match="may never be replaced"):
        Allowed(type_, frozenset(), "because")
