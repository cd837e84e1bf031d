"""`mlops logs`: the end of a log, rotation, new runs, and what a name means."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulumi_mlops.cli import main
from pulumi_mlops.targets.local.operations.logs import Followed

from .cli_fixtures import end


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("PULUMI_STACK", "STACK"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "Pulumi.yaml").write_text("name: p\n")
    folder = tmp_path / ".mlops" / "dev" / "logs"
    folder.mkdir(parents=True)
    return folder


def _lines(followed: Followed) -> list[str]:
    return [*followed.new_lines(), *filter(None, [followed.rest()])]


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=5)),
    st.booleans(),
    st.integers(0, 12),
)
def test_the_last_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], whole: bool, count: int
) -> None:
    file = tmp_path_factory.mktemp("logs") / "x.log"
    text = "\n".join(lines) + ("\n" if whole and lines else "")
    file.write_bytes(text.encode())
    every = text.split("\n")
    if every[-1] == "":
        every.pop()
    assert _lines(Followed(file, count)) == (every[-count:] if count else [])


def test_lines_longer_than_a_block(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    long = ["a" * 200_000, "b" * 70_000, "c"]
    file.write_text("\n".join(long) + "\n")
    assert _lines(Followed(file, 2)) == long[1:]
    assert _lines(Followed(file, 3)) == long


def test_following_goes_on_through_rotation_and_emptying(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    file.write_text("one\ntwo\nthr")
    followed = Followed(file, 1)
    assert list(followed.new_lines()) == []  # the last line is not whole yet
    with file.open("a") as log:
        log.write("ee\n")
    assert list(followed.new_lines()) == ["three"]
    with file.open("a") as log:
        log.write("four\nend of the old")
    file.rename(tmp_path / "x.log.1")
    assert list(followed.new_lines()) == ["four"]
    file.write_text("first of the new\n")
    assert list(followed.new_lines()) == ["end of the old", "first of the new"]
    file.write_text("again\n")
    assert list(followed.new_lines()) == ["again"]


def test_a_log_that_comes_later(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    followed = Followed(file, 10)
    assert list(followed.new_lines()) == []
    file.write_text("here\n")
    assert list(followed.new_lines()) == ["here"]


def test_one_log_is_shown_as_it_is(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (logs / "platform-tracking-server-0.log").write_text("a\nb\nc")
    (logs / "platform-artifacts-server-0.log").write_text("x\n")
    assert main(["logs", "tracking", "-n", "2"]) == 0
    assert capsys.readouterr().out == "b\nc\n"


def test_replicas_are_shown_with_their_names(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("p-endpoint-v1.1-0", "p-endpoint-v1.1-1", "p-endpoint-route.route"):
        (logs / f"{name}.log").write_text(f"of {name}\n")
    assert main(["logs", "endpoint-v1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "p-endpoint-v1.1-0 | of p-endpoint-v1.1-0",
        "p-endpoint-v1.1-1 | of p-endpoint-v1.1-1",
    ]
    assert main(["logs", "endpoint"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_names_of_several_components_are_listed(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("p-penguins-endpoint-v1.1-0", "p-penguins-pipeline-job"):
        (logs / f"{name}.log").write_text("")
    assert main(["logs", "penguins"]) == 2
    told = capsys.readouterr().err
    assert "p-penguins-endpoint-v1.1-0, p-penguins-pipeline-job" in told
    assert main(["logs", "oracle"]) == 2
    assert "p-penguins-pipeline-job" in capsys.readouterr().err


def test_without_a_name_the_logs_are_listed(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (logs / "p-tracking-server-0.log").write_text("12345")
    (logs / "p-tracking-server-0.log.1").write_text("")
    assert main(["logs"]) == 0
    out = capsys.readouterr().out
    assert out.count("p-tracking-server-0 ") == 1
    assert "5 B" in out


def test_the_run_before(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (logs / "p-pipeline-job.log").write_text("now\n")
    assert main(["logs", "pipeline", "--previous"]) == 2
    assert "no previous log" in capsys.readouterr().err
    (logs / "p-pipeline-job.log.1").write_text("before\n")
    assert main(["logs", "pipeline", "--previous"]) == 0
    assert capsys.readouterr().out == "before\n"
    assert main(["logs", "pipeline", "--previous", "-f"]) == 2


def follow(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pulumi_mlops.cli", "logs", name, "-f"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_following_ends_quietly_at_ctrl_c(logs: Path) -> None:
    file = logs / "p-pipeline-job.log"
    file.write_text("one\n")
    process = follow("pipeline")
    try:
        assert process.stdout is not None and process.stdout.readline() == "one\n"
        file.rename(f"{file}.1")
        file.write_text("of the next run\n")
        assert process.stdout.readline() == "of the next run\n"
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate()
    finally:
        end(process)
    assert (out, errors, process.returncode) == ("", "", 0)


def test_following_goes_on_with_the_next_generation(logs: Path) -> None:
    (logs / "p-live-v1.1-0.log").write_text("one\n")
    process = follow("live")
    try:
        assert process.stdout is not None and process.stdout.readline() == "one\n"
        (logs / "p-live-v1.2-0.log").write_text("two\n")
        assert process.stdout.readline() == "p-live-v1.2-0 | two\n"
    finally:
        end(process)


def test_a_reader_that_goes_is_no_error(logs: Path) -> None:
    (logs / "p-pipeline-job.log").write_text("line\n" * 100_000)
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pulumi_mlops.cli", "logs", "pipeline", "-n", "100000"],
            stdout=write, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert (done.stderr, done.returncode) == ("", 0)
