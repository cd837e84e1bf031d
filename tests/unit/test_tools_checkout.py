"""What a checkout's own state, passphrase and configuration promise."""

import json
import stat
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import checkout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "a project"
    (folder / "stacks").mkdir(parents=True)
    for name in ("dev", "prod"):
        (folder / "stacks" / f"Pulumi.{name}.yaml").write_text("config:\n  mlops:target: local\n")
    return folder


@pytest.fixture
def base(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}


def prepared(project: Path, base: dict[str, str]) -> dict[str, str]:
    env = {**base, **checkout.settings(project, base)}
    checkout.prepare(project, env)
    return env


def test_a_fresh_checkout_gets_a_backend_and_a_passphrase_of_its_own(project, base):
    env = prepared(project, base)

    assert env["PATH"].split(":")[:2] == [f"{project}/.venv/bin", f"{project}/.venv/engine"]
    assert env["PULUMI_BACKEND_URL"] == f"file://{project}/.mlops/state".replace(" ", "%20")
    passphrase = Path(env["PULUMI_CONFIG_PASSPHRASE_FILE"])
    assert len(passphrase.read_text()) >= 40
    assert stat.S_IMODE(passphrase.stat().st_mode) == 0o600
    assert stat.S_IMODE((project / ".mlops" / "state").stat().st_mode) == 0o700
    assert [path.name for path in passphrase.parent.iterdir() if path.is_file()] == ["passphrase"]


def test_the_passphrase_is_made_once_also_from_a_shell_that_has_the_settings(project, base):
    first = prepared(project, base)
    text = Path(first["PULUMI_CONFIG_PASSPHRASE_FILE"]).read_text()

    second = prepared(project, first)

    assert second == first
    assert Path(second["PULUMI_CONFIG_PASSPHRASE_FILE"]).read_text() == text


def test_a_lost_passphrase_is_not_replaced_by_one_that_fits_nothing(project, base):
    env = prepared(project, base)
    stored = project / ".mlops/state/.pulumi/stacks/platform/dev.json"
    stored.parent.mkdir(parents=True)
    stored.write_text("{}")
    passphrase = Path(env["PULUMI_CONFIG_PASSPHRASE_FILE"])
    passphrase.unlink()

    with pytest.raises(checkout.StackError, match=r"passphrase is missing.*dev.*Restore"):
        prepared(project, base)
    assert not passphrase.exists()


@pytest.mark.parametrize(
    "chosen",
    [
        {"PULUMI_BACKEND_URL": "s3://team-state"},
        {"PULUMI_ACCESS_TOKEN": "pul-x"},
        {"PULUMI_HOME": "logged-in"},
    ],
)
def test_another_backend_of_the_user_is_left_to_the_user(project, base, chosen, tmp_path):
    if "PULUMI_HOME" in chosen:
        chosen = {"PULUMI_HOME": str(tmp_path / "home")}
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "credentials.json").write_text(
            json.dumps({"current": "https://api.pulumi.com"})
        )

    env = prepared(project, {**base, **chosen})

    assert set(env) == {*base, *chosen, "PULUMI_SKIP_UPDATE_CHECK"}
    assert {key: env[key] for key in chosen} == chosen
    assert not (project / ".mlops").exists()


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"PULUMI_BACKEND_URL": "s3://team"}, r"PULUMI_BACKEND_URL=s3://team .* unset it"),
        (
            {"PULUMI_BACKEND_URL": "postgres://user:pul-secret@db/state?password=pul-secret"},
            r"PULUMI_BACKEND_URL=postgres://db selects",
        ),
        ({"PULUMI_ACCESS_TOKEN": "pul-secret"}, r"PULUMI_ACCESS_TOKEN selects .* unset it"),
        ({"PULUMI_HOME": "home"}, r"login` at https://api.pulumi.com .* `pulumi logout`"),
    ],
)
def test_one_stack_never_has_two_states(project, base, chosen, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (project / "Pulumi.yaml").write_text("name: platform\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "credentials.json").write_text('{"current": "https://api.pulumi.com"}')
    other = {**base, **chosen}
    prepared(project, base)
    stored = project / ".mlops/state/.pulumi/stacks/platform/dev.json"
    checkout.refuse_second_state(project, "dev", other)
    stored.parent.mkdir(parents=True)
    stored.write_text("{}")

    checkout.refuse_second_state(project, "prod", other)
    checkout.refuse_second_state(project, "dev", prepared(project, base))
    with pytest.raises(checkout.StackError, match=f"STACK=dev is up .*{told}") as error:
        checkout.refuse_second_state(project, "dev", other)
    assert "pul-secret" not in str(error.value)


@pytest.mark.parametrize("stored", ["", "{}", '{"current": ""}', "[]", "not json"])
def test_a_log_in_that_names_no_backend_counts_for_nothing(project, base, stored):
    home = Path(base["HOME"]) / ".pulumi"
    home.mkdir()
    (home / "credentials.json").write_text(stored)

    assert checkout.uses_own_backend(project, base)


@pytest.mark.parametrize(
    "chosen", [{"PULUMI_CONFIG_PASSPHRASE": ""}, {"PULUMI_CONFIG_PASSPHRASE_FILE": "/secret"}]
)
def test_a_passphrase_of_the_user_is_used(project, base, chosen):
    env = prepared(project, {**base, **chosen})

    assert {key: env[key] for key in env if "PASSPHRASE" in key} == chosen
    assert not (project / ".mlops" / "passphrase").exists()


@pytest.mark.parametrize("name", ["state", "passphrase", "State"])
def test_an_environment_may_not_have_the_folder_of_the_checkout(project, name):
    (project / "stacks" / f"Pulumi.{name}.yaml").write_text("")
    with pytest.raises(checkout.StackError, match=f"STACK={name}: a stack cannot be called {name}"):
        checkout.config_file(project, name)


def test_an_unknown_environment_is_named_with_those_that_exist(project):
    assert checkout.config_file(project, "prod").name == "Pulumi.prod.yaml"
    with pytest.raises(checkout.StackError, match=r"STACK=stage: .*environments: dev, prod\."):
        checkout.config_file(project, "stage")


COMMITTED = """# What dev is
config:
    # four spaces
    mlops:target: local   # here

    mlops:n: 1.50
    mlops:on: true
    mlops:traffic: {4: 90, "3": 10}
"""
REWRITTEN = """# What dev is
config:
  # four spaces
  mlops:target: local # here
  mlops:n: "1.5"
  mlops:on: "true"
  mlops:traffic: {"4": 90, "3": 10}
encryptionsalt: v1:aaa=:v1:bbb:ccc==
"""
ENCRYPTED = REWRITTEN.replace('n: "1.5"', "key:\n    secure: v1:x")


@pytest.mark.parametrize(
    ("before", "written", "after"),
    [
        pytest.param(COMMITTED, REWRITTEN, COMMITTED, id="the engine's rewriting is undone"),
        pytest.param(
            COMMITTED,
            REWRITTEN.replace("1.5", "1.6"),
            REWRITTEN.replace("1.5", "1.6").partition("encryptionsalt")[0],
            id="a value set meanwhile stays",
        ),
        pytest.param(
            COMMITTED,
            REWRITTEN.replace("# here", "# there"),
            REWRITTEN.replace("# here", "# there").partition("encryptionsalt")[0],
            id="a comment written meanwhile stays",
        ),
        pytest.param(
            COMMITTED, "config: [", "config: [", id="a file in the middle of an edit stays"
        ),
        pytest.param(
            REWRITTEN,
            REWRITTEN,
            REWRITTEN.partition("encryptionsalt")[0],
            id="a salt that plain pulumi left goes",
        ),
        pytest.param(
            ENCRYPTED,
            ENCRYPTED,
            ENCRYPTED,
            id="a salt that encrypted values need stays",
        ),
    ],
)
def test_what_a_run_leaves_in_the_configuration(tmp_path, before, written, after):
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(before)

    with pytest.raises(KeyboardInterrupt), checkout.without_engine_changes(file):
        file.write_text(written)
        raise KeyboardInterrupt

    assert file.read_text() == after


def test_the_engine_does_not_see_the_salt_of_another_passphrase(tmp_path):
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(COMMITTED + "encryptionsalt: v1:of:another\n")

    with checkout.without_engine_changes(file):
        assert file.read_text() == COMMITTED


KEY = "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"


@pytest.mark.parametrize(
    ("stack", "base", "wanted"),
    [
        ("dev", {}, {KEY: "true"}),
        ("dev", {KEY: "false"}, {}),
        ("cluster", {}, {}),
        ("cluster", {KEY: "true"}, {}),
        ("cluster", {KEY: "true", "PULUMI_STACK": "dev"}, {KEY: "false"}),
        ("cluster", {KEY: "true", "PULUMI_STACK": "gone"}, {}),
    ],
)
def test_only_stacks_of_a_cluster_look_for_plugins(tmp_path, stack, base, wanted):
    (tmp_path / "stacks").mkdir()
    for name, target in (("dev", "local"), ("cluster", "kubernetes")):
        file = tmp_path / "stacks" / f"Pulumi.{name}.yaml"
        file.write_text(f"config:\n  mlops:target: {target}\n")

    assert (
        checkout.plugin_download(tmp_path, tmp_path / "stacks" / f"Pulumi.{stack}.yaml", base)
        == wanted
    )


@pytest.mark.parametrize("text", ["", "config:\n", "- a\n", "a: [\n", "config: {a: 1}\n"])
def test_a_stack_file_that_names_no_target_is_of_this_machine(tmp_path, text):
    (tmp_path / "Pulumi.x.yaml").write_text(text)

    assert checkout.target_of(tmp_path / "Pulumi.x.yaml").on_this_machine


@pytest.mark.parametrize(
    ("text", "key"), [("confg:\n  a:b: c\n", "confg"), ("config: {}\nextra: 1\n", "extra")]
)
def test_a_misspelled_key_of_a_stack_file_is_refused(tmp_path, text, key):
    (tmp_path / "stacks").mkdir()
    file = tmp_path / "stacks" / "Pulumi.dev.yaml"
    file.write_text(text)
    with pytest.raises(checkout.StackError, match=f"Pulumi.dev.yaml: '{key}' is not a key"):
        checkout.config_file(tmp_path, "dev")
    assert file.read_text() == text
