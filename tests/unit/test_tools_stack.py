"""Driving a stack: locks, signals, what is printed, and one life with the real engine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import stack as tool

ROOT = Path(tool.__file__).parents[1]


def test_a_signal_reaches_the_child_once_and_is_waited_for(tmp_path):
    child = tmp_path / "child.py"
    child.write_text(
        "import signal, sys, time\n"
        "seen = []\n"
        "signal.signal(signal.SIGINT, lambda *_: seen.append(1))\n"
        "print('on', flush=True)\n"
        "while not seen: time.sleep(0.01)\n"
        "time.sleep(0.5)\n"
        "print('seen', len(seen), flush=True)\n"
        "sys.exit(7)\n"
    )
    command = [sys.executable, str(ROOT / "tools" / "stack.py"), "run", "--", sys.executable]
    with subprocess.Popen(
        [*command, str(child)],
        env={**os.environ, "PULUMI_BACKEND_URL": "s3://unused"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == "on\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read() == "seen 1\n"
        assert process.wait() == 7


def test_the_summary_shows_what_people_look_for():
    text = tool.summary(
        "dev",
        {
            "tracking_url": "http://127.0.0.1:5000",
            "artifact_store": "s3://artifacts",
            "logs_dir": "/logs",
            "client_env": "[secret]",
            "endpoints": {
                "penguins": {"url": "http://127.0.0.1:8080", "traffic": {"4": 90.0, "3": 10.0}}
            },
            "try_it": "curl http://127.0.0.1:8080/v2/health/ready",
        },
    )

    assert text.splitlines() == [
        "",
        "dev:",
        "  tracking server    http://127.0.0.1:5000",
        "  artifact store     s3://artifacts",
        "  logs               /logs",
        "  endpoint penguins  http://127.0.0.1:8080  (traffic 4: 90 %, 3: 10 %)",
        "",
        "Try it:",
        "  curl http://127.0.0.1:8080/v2/health/ready",
    ]
    assert "make up STACK=dev" in tool.summary("dev", {})


def test_the_summary_of_a_cluster_says_how_to_reach_it():
    text = tool.summary(
        "cluster",
        {
            "tracking_url": "http://platform-tracking-server.mlops.svc:8080",
            "client_env_file": "/here/client.env",
            "logs_dir": None,
            "try_it": "curl http://platform-x-endpoint-route.mlops.svc:8080/invocations",
        },
        here=False,
    )

    assert text.splitlines()[1:] == [
        "cluster:",
        "  tracking server  http://platform-tracking-server.mlops.svc:8080",
        "",
        "The URLs are valid inside the cluster; "
        "`mlops connect --stack cluster` opens tunnels to them.",
        "",
        "Try it:",
        "  mlops connect --stack cluster -- "
        "curl http://platform-x-endpoint-route.mlops.svc:8080/invocations",
    ]


def test_a_shell_reads_the_settings_back_as_they_are(capsys):
    wanted = {"PULUMI_BACKEND_URL": 'file:///it\'s a "$HOME"/`x`', "EMPTY": ""}
    tool.print_env("dev", wanted)

    lines = capsys.readouterr().out
    assert all(line.startswith("export ") for line in lines.splitlines())
    script = f'{lines}\nprintf "%s\\n" "$PULUMI_BACKEND_URL" "$EMPTY" "$PULUMI_STACK"'
    shell = shutil.which("sh")
    read = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True).stdout
    assert read.splitlines() == [wanted["PULUMI_BACKEND_URL"], "", "dev"]


PROGRAM = """
import pathlib, time, pulumi
here = pathlib.Path(__file__).parent
if not pulumi.runtime.is_dry_run() and (here / "wait").exists():
    (here / "waiting").touch()
    time.sleep(600)
pulumi.export("tracking_url", "http://127.0.0.1:5000")
pulumi.export("client_env", pulumi.Output.secret({"KEY": "hunter2"}))
"""
CONFIG = "config:\n    platform:x: 1   # a layout that the engine does not keep\n"


@pytest.fixture
def clone(tmp_path):
    """A checkout with a program of one stack and no resources, and nothing of the user's."""
    assert shutil.which("pulumi"), "the engine is not on PATH: run these tests by `make test`"
    project = tmp_path / "my clone"
    (project / "stacks").mkdir(parents=True)
    shutil.copytree(ROOT / "tools", project / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "Pulumi.yaml").write_text(
        "name: platform\nruntime: python\nmain: stacks/\nstackConfigDir: stacks/\n"
    )
    (project / "stacks" / "__main__.py").write_text(PROGRAM)
    (project / "stacks" / "Pulumi.dev.yaml").write_text(CONFIG)
    (project / ".venv").symlink_to(sys.prefix)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PULUMI_", "MLOPS_"))}
    return project, {**kept, "PULUMI_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}


def command(clone, *arguments: str) -> subprocess.CompletedProcess[str]:
    project, env = clone
    return subprocess.run(
        [sys.executable, str(project / "tools" / "stack.py"), *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.engine
def test_one_life_of_a_stack(clone):
    project, env = clone
    config = project / "stacks" / "Pulumi.dev.yaml"

    # The program's connection to the engine does not go to a proxy, whatever `no_proxy` says.
    env |= {
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "corp",
    }
    done = command(clone, "up")
    assert done.returncode == 0, done.stderr
    assert "tracking server  http://127.0.0.1:5000" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert config.read_text() == CONFIG

    # Plain pulumi, with the settings that `env` prints, works on the same stack.
    shell = (
        command(clone, "env").stdout + "pulumi stack output tracking_url && pulumi up --yes -s dev"
    )
    plain = subprocess.run(
        [shutil.which("sh"), "-c", shell],
        env=env, cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.startswith("http://127.0.0.1:5000\n")
    config.write_text(CONFIG)

    # An update is killed; one that lives is respected, a dead one is cleared.
    (project / "stacks" / "wait").touch()
    update = subprocess.Popen(
        [sys.executable, str(project / "tools" / "stack.py"), "up"],
        env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (project / "stacks" / "waiting").exists():
        assert update.poll() is None
        time.sleep(0.05)
    (lock,) = (project / ".mlops" / "state" / ".pulumi" / "locks").glob("*/platform/dev/*.json")
    pid = json.loads(lock.read_text())["pid"]
    refused = command(clone, "up")
    assert refused.returncode == 2
    assert f"pid {pid}" in refused.stderr
    os.kill(pid, signal.SIGKILL)
    assert update.wait() == 128 + signal.SIGKILL
    (project / "stacks" / "wait").unlink()
    again = command(clone, "up")
    assert again.returncode == 0, again.stderr
    assert "its lock is removed" in again.stderr
    assert config.read_text() == CONFIG

    down = command(clone, "down")
    assert down.returncode == 0, down.stderr
    assert "dev is down. Kept: stacks/Pulumi.dev.yaml" in down.stderr
    assert not list((project / ".mlops/state/.pulumi/stacks").glob("*/*.json"))
    assert config.read_text() == CONFIG
    assert "nothing to delete" in command(clone, "down").stderr
    assert command(clone, "status").stdout.startswith("dev is not up; `make up STACK=dev`")


@pytest.mark.engine
def test_two_clones_do_not_lock_each_other_out(clone, tmp_path):
    project, env = clone
    other = tmp_path / "other clone"
    shutil.copytree(project, other, symlinks=True)

    assert command(clone, "preview").returncode == 0
    done = command((other, env), "preview")

    assert done.returncode == 0, done.stderr
    passphrases = {(p / ".mlops" / "passphrase").read_text() for p in (project, other)}
    assert len(passphrases) == 2


def test_a_wrong_environment_is_an_error_without_a_traceback(clone):
    done = command(clone, "--stack", "nope", "up")

    assert done.returncode == 2
    assert done.stderr.startswith("error: STACK=nope: there is no stacks/Pulumi.nope.yaml.")
    assert "Traceback" not in done.stderr


def test_make_uses_no_modules_of_the_shell(clone, tmp_path):
    project, env = clone
    for module in ("yaml", "psutil", "pulumi"):
        (tmp_path / f"{module}.py").write_text("raise RuntimeError('a module of the shell')\n")
    shutil.copy(ROOT / "Makefile", project)
    done = subprocess.run(
        ["make", "-s", "-o", ".venv/.engine", "env"], cwd=project,
        env={**env, "PYTHONPATH": str(tmp_path), "STACK": "dev"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "a module of the shell" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert "export PULUMI_STACK=dev" in done.stdout


@pytest.mark.parametrize(
    ("env", "stack"),
    [
        ({}, "dev"),
        ({"PULUMI_STACK": "staging"}, "staging"),
        ({"PULUMI_STACK": "organization/platform/staging"}, "staging"),
        ({"PULUMI_STACK": "staging", "STACK": "dev"}, "dev"),
    ],
)
def test_make_means_the_environment_of_its_shell(env, stack):
    """In a shell of `STACK=staging make env`, a plain `make down` once destroyed dev."""
    outer = {"STACK", "PULUMI_STACK", "MAKEFLAGS", "MAKEOVERRIDES"}
    base = {key: value for key, value in os.environ.items() if key not in outer}
    done = subprocess.run(
        ["make", "-s", "help"], cwd=Path(__file__).resolve().parents[2], env={**base, **env},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"(default: {stack})" in done.stdout
