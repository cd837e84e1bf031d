"""A failed test is rerun only if it is on the list of known flaky tests."""

from __future__ import annotations

from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[1] / "flaky_list.py"
FAILS_ONCE = """
    from pathlib import Path

    def test_it():
        first = not Path("ran").exists()
        Path("ran").touch()
        assert not first
"""
LISTED = '[[flaky]]\ntest = "test_program.py::test_it"\nreason = "a race"\nsince = 2026-11-25\n'

Run = pytest.RunResult


@pytest.fixture
def folder(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder whose tests run with the plugin."""
    pytester.makeconftest(PLUGIN.read_text())
    return pytester


def run(folder: pytest.Pytester, listed: str, program: str, *options: str) -> Run:
    (folder.path / "flaky.toml").write_text(listed)
    folder.makepyfile(test_program=program)
    return folder.runpytest("-p", "no:cacheprovider", *options)


def test_an_unlisted_test_that_fails_once_fails_the_run(folder: pytest.Pytester) -> None:
    done = run(folder, "", FAILS_ONCE)
    done.assert_outcomes(failed=1)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["listed: 0, rerun: 0"])


def test_a_listed_test_that_fails_once_passes_and_is_reported(folder: pytest.Pytester) -> None:
    done = run(folder, LISTED, FAILS_ONCE)
    assert done.ret == pytest.ExitCode.OK
    assert done.parseoutcomes() == {"passed": 1, "rerun": 1}
    done.stdout.fnmatch_lines(
        ["RERUN test_program.py::test_it: a race (since 2026-11-25)", "listed: 1, rerun: 1"]
    )


def test_a_listed_test_is_rerun_in_a_worker_too(folder: pytest.Pytester) -> None:
    done = run(folder, LISTED, FAILS_ONCE, "-n", "1")
    assert done.ret == pytest.ExitCode.OK
    done.stdout.fnmatch_lines(["RERUN test_program.py::test_it: a race (since 2026-11-25)"])


def test_a_listed_test_that_fails_twice_fails_the_run(folder: pytest.Pytester) -> None:
    done = run(folder, LISTED, "def test_it():\n    assert False")
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    assert done.parseoutcomes() == {"failed": 1, "rerun": 1}


def test_a_listed_test_that_passes_is_listed_and_not_rerun(folder: pytest.Pytester) -> None:
    done = run(folder, LISTED, "def test_it():\n    pass")
    done.stdout.fnmatch_lines(
        ["test_program.py::test_it: a race (since 2026-11-25)", "listed: 1, rerun: 0"]
    )


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ('test = "a"\nsince = 2026-11-25', "*missing*reason*"),
        ('test = "a"\nreason = " "\nsince = 2026-11-25', "*flaky.toml: a has no reason*"),
    ],
)
def test_an_entry_without_a_reason_stops_the_run(
    folder: pytest.Pytester, entry: str, error: str
) -> None:
    done = run(folder, f"[[flaky]]\n{entry}\n", "def test_it():\n    pass")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([error])
