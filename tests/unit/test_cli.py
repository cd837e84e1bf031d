"""The command itself: usage, exit codes, colours, and what it imports."""

from __future__ import annotations

import io
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pulumi_mlops.cli import main
from pulumi_mlops.cli.terminal import Style, duration, size, table


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert main(arguments) == 0
    except SystemExit as ended:
        assert ended.code == 0
    assert capsys.readouterr().out == f"pulumi-mlops {version('pulumi-mlops')}\n"


@pytest.mark.parametrize(
    "arguments", [["logs", "-n", "-1"], ["run"], ["nonsense"], ["status", "x"]]
)
def test_wrong_usage_is_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: mlops" in capsys.readouterr().err


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "mlops doctor" in capsys.readouterr().err


def test_a_missing_project_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--project", str(tmp_path / "gone")]) == 2
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["status"], ["logs"], ["run", "x"], ["--version"]])
def test_only_the_doctor_imports_pulumi(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / ".mlops" / "dev" / "programs").mkdir(parents=True)
    program = (
        "import sys; from pulumi_mlops.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('pulumi' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "False"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Style(_Terminal()).bad("x") == "\033[31mx\033[0m"
    assert Style(io.StringIO()).bad("x") == "x"
    monkeypatch.setenv("TERM", "dumb")
    assert Style(_Terminal()).bad("x") == "x"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert Style(_Terminal()).bad("x") == "x"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (12_000, "3 h 20 min"),
     (180_000, "2 d 2 h"), (-3, "0 s")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (117 * 2**20, "117 MiB"),
        (2**50, "1024 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_a_table_leaves_out_empty_columns() -> None:
    lines = table(["A", "B", "C"], [["1", "", "long"], ["22", "", "x"]], Style(io.StringIO()))
    assert lines == ["A   C", "1   long", "22  x"]
