import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from penguins import cli
from penguins.cli import Settings, parse, without_credentials


def run(folder, *arguments, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "MLOPS_"))}
    return subprocess.run(
        [sys.executable, "run.py", *arguments],
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_defaults_and_values():
    assert parse([]) == Settings()
    assert parse(["--test-size", "0.25", "--seed", "3", "--model-name", "birds.v2"]) == Settings(
        test_size=0.25, seed=3, model_name="birds.v2"
    )


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--test-size", "0.9", "'0.9' is not a number from 0.05 to 0.5"),
        ("--test-size", "nan", "'nan' is not a number from 0.05 to 0.5"),
        ("--test-size", "", "'' is not a number"),
        ("--seed", "-1", "'-1' is not a whole number from 0 to 4294967295"),
        ("--seed", "1.5", "'1.5' is not a whole number"),
        ("--regularization", "0", "'0' is not a number from 0.0001 to 10000"),
        ("--min-accuracy", "1.01", "'1.01' is not a number from 0 to 1"),
        ("--min-delta", "inf", "'inf' is not a number from 0 to 1"),
        ("--model-name", "a/b", "'a/b' is not a name"),
        ("--experiment", "", "'' is not a name"),
        ("--data", "nowhere.csv", "'nowhere.csv' is not a file"),
    ],
)
def test_a_bad_value_is_one_line_that_names_it(capsys, option, value, told):
    with pytest.raises(SystemExit, match="2"):
        parse([option, value])
    error = capsys.readouterr().err
    assert error.startswith(f"run.py: argument {option}: {told}")
    assert error.count("\n") == 1


def test_an_unknown_or_shortened_option_is_refused(capsys):
    for unknown in (["--sede", "1"], ["--test", "0.2"]):
        with pytest.raises(SystemExit, match="2"):
            parse(unknown)
        assert f"unrecognized arguments: {unknown[0]}" in capsys.readouterr().err


def test_help_tells_ranges_and_defaults(folder):
    done = run(folder, "--help")
    text = " ".join(done.stdout.split())
    assert done.returncode == 0
    assert "0.05 to 0.5 (default: 0.2)" in text
    for field in Settings.__dataclass_fields__:
        assert f"--{field.replace('_', '-')}" in text


def test_no_tracking_uri_is_one_line(folder):
    done = run(folder)
    assert done.returncode == 1
    assert "MLFLOW_TRACKING_URI is not set: set it to the URL" in done.stderr
    assert done.stderr.count("\n") == 1


def test_outputs_that_cannot_be_written_are_found_at_once(folder, tmp_path):
    for target in (tmp_path / "missing" / "out.json", tmp_path):
        done = run(folder, MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLOPS_OUTPUTS=str(target))
        assert done.returncode == 1
        assert f"MLOPS_OUTPUTS={target} cannot be written" in done.stderr


def test_errors_hide_credentials():
    told = without_credentials("API request to\n https://me:s3cret@host:5000/api failed")
    assert told == "API request to https://***@host:5000/api failed"


def test_the_command_line_imports_nothing_heavy(folder):
    code = "import sys, penguins.cli; print(*(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert not {"mlflow", "pandas", "sklearn", "matplotlib"} & set(done.stdout.split())
    assert Path(cli.__file__).is_relative_to(folder)


def test_requirements_are_pinned_to_what_is_tested_here(folder):
    lines = (folder / "requirements.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in pins)
    here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    assert {p.name: str(p.specifier) for p in here} == {
        p.name: f"=={version(p.name)}" for p in here
    }
