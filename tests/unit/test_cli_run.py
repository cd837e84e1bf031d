"""`mlops run`: a deployed job again, with its log, outputs, exit code and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pulumi_mlops.cli import main
from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.stackdir import StackDir
from pulumi_mlops.targets.local.host import jobs

from .cli_fixtures import SECRET, end, job, made_stack, until

WRITES = """
import json, os
print("epoch 1")
json.dump({"version": "3", "metrics": {"auc": 0.5}}, open(os.environ["MLOPS_OUTPUTS"], "w"))
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StackDir]:
    monkeypatch.chdir(tmp_path)
    for name in ("PULUMI_STACK", "STACK"):
        monkeypatch.delenv(name, raising=False)
    with made_stack(tmp_path) as root:
        yield root


def test_log_and_outputs_are_shown(root: StackDir, capsys: pytest.CaptureFixture[str]) -> None:
    job(root, "platform-penguins-pipeline-job", WRITES)
    job(root, "platform-wine-pipeline-job", "pass")
    assert main(["run", "penguins"]) == 0
    shown = capsys.readouterr()
    assert shown.out == 'epoch 1\n  version: 3\n  metrics: {"auc": 0.5}\n'
    assert "done: platform-penguins-pipeline-job" in shown.err
    assert SECRET not in shown.out + shown.err


def test_secrets_are_only_in_the_private_definition(root: StackDir) -> None:
    """A schedule and `mlops run` need them as long as the job is deployed."""

    def files() -> set[Path]:
        entries = [each for each in root.path.rglob("*") if each.is_file()]
        return {each for each in entries if SECRET in each.read_text(errors="replace")}

    job(root, "p-job", "print('trained')")
    assert main(["run", "p-job"]) == 0
    (definition,) = files()
    assert definition == root.path / "jobs" / "p-job" / "spec.json"
    assert definition.stat().st_mode & 0o777 == 0o600
    jobs.remove(root, "p-job", keep_logs=True)
    assert files() == set()


def test_it_exits_with_the_code_of_the_job(
    root: StackDir, capsys: pytest.CaptureFixture[str]
) -> None:
    job(root, "p-job", "print('no data'); raise SystemExit(7)")
    assert main(["run", "p-job"]) == 7
    shown = capsys.readouterr()
    assert shown.out == "no data\n"
    assert "exit code 7" in shown.err
    job(root, "p-job", "import os; os.kill(os.getpid(), 9)")
    assert main(["run", "p-job"]) == 128 + 9


def test_names_that_are_none_or_several(root: StackDir, capsys: pytest.CaptureFixture[str]) -> None:
    job(root, "p-penguins-pipeline-job", "pass")
    job(root, "p-wine-pipeline-job", "pass")
    for name in ("pipeline", "cats"):
        assert main(["run", name]) == 2
        assert "p-penguins-pipeline-job, p-wine-pipeline-job" in capsys.readouterr().err


def test_a_run_that_takes_too_long(root: StackDir, capsys: pytest.CaptureFixture[str]) -> None:
    job(root, "p-job", "import time; time.sleep(600)", timeout_seconds=0.2)
    assert main(["run", "p-job"]) == 1
    told = capsys.readouterr().err
    assert "not done after 0.2 s" in told
    assert "Traceback" not in told
    last = jobs.last_run(root, "p-job")
    assert last is not None
    assert "not done after" in last["reason"]


def test_an_interrupt_in_the_first_moment_is_not_lost(root: StackDir) -> None:
    job(root, "p-job", "import time; time.sleep(600)")
    cancelled = threading.Event()
    cancelled.set()  # before the launcher had the time to become the program
    with pytest.raises(ResourceError, match="p-job: interrupted"):
        jobs.run(root, "p-job", lambda line: None, cancelled)
    assert not jobs.is_running(root, "p-job")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_run_and_all_of_it(root: StackDir, number: int) -> None:
    child = "import subprocess; p = subprocess.Popen(['sleep', '600']); print(p.pid); p.wait()"
    job(root, "p-job", child)
    runner = subprocess.Popen(
        [sys.executable, "-m", "pulumi_mlops.cli", "run", "p-job"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert runner.stdout is not None
        sleeper = int(runner.stdout.readline())
        assert main(["run", "p-job"]) == 1  # not twice at the same time
        runner.send_signal(number)
        _, errors = runner.communicate()
    finally:
        end(runner)
    assert runner.returncode == 130
    assert errors == "interrupted: p-job has ended\n"
    assert not jobs.is_running(root, "p-job")
    until(lambda: not psutil.pid_exists(sleeper) or _zombie(sleeper))


def _zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_run_whose_reader_goes_is_ended(root: StackDir) -> None:
    job(root, "p-job", "import time\nwhile True: print('line'); time.sleep(0.01)")
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pulumi_mlops.cli", "run", "p-job"],
            stdout=write, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert "Traceback" not in done.stderr
    assert not jobs.is_running(root, "p-job")
