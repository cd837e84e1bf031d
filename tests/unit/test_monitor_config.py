"""The monitor's configuration and its errors."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from pulumi_mlops.runtime.monitor.config import Config, ConfigError, ScrapeTarget, load

GOOD: dict[str, Any] = {
    "job": "serving", "instance": "v4-0", "url": "http://127.0.0.1:1/metrics",
}  # fmt: skip


def environment(targets: object = (), **more: str) -> dict[str, str]:
    return {"PORT": "9000", "MLOPS_TARGETS": json.dumps(targets), **more}


def test_defaults() -> None:
    assert load(environment([])) == Config(port=9000, targets=())
    assert load(environment([])).host == "127.0.0.1"


def test_everything_given() -> None:
    target = {**GOOD, "health_url": "https://h/health", "labels": {"zone": "a"}}
    config = load(
        environment(
            [target],
            HOST="0.0.0.0",
            MLOPS_STACK="dev",
            MLOPS_LINKS='{"Tracking": "http://127.0.0.1:5000"}',
            MLOPS_SCRAPE_INTERVAL="2.5",
        )
    )
    assert config.targets == (
        ScrapeTarget("serving", "v4-0", GOOD["url"], "https://h/health", {"zone": "a"}),
    )
    assert config.targets[0].identity == {"job": "serving", "instance": "v4-0", "zone": "a"}
    assert (config.host, config.stack, config.interval) == ("0.0.0.0", "dev", 2.5)
    assert config.links == {"Tracking": "http://127.0.0.1:5000"}


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"PORT": "0"}, "PORT:"),
        ({"PORT": "http"}, "PORT:"),
        ({"PORT": "²"}, "PORT:"),
        ({"MLOPS_SCRAPE_INTERVAL": "0"}, "MLOPS_SCRAPE_INTERVAL:"),
        ({"MLOPS_SCRAPE_INTERVAL": "nan"}, "MLOPS_SCRAPE_INTERVAL:"),
        ({"MLOPS_TARGETS": "[{"}, "MLOPS_TARGETS: is not JSON"),
        ({"MLOPS_TARGETS": "{}"}, "MLOPS_TARGETS:"),
        ({"MLOPS_TARGETS": "[3]"}, "MLOPS_TARGETS[0]:"),
        ({"MLOPS_LINKS": "[]"}, "MLOPS_LINKS:"),
        ({"MLOPS_LINKS": '{"Tracking": "javascript:alert(1)"}'}, "MLOPS_LINKS.Tracking:"),
        ({"MLOPS_LINKS": '{"Tracking": null}'}, "MLOPS_LINKS.Tracking:"),
    ],
)
def test_errors_name_the_variable(changes: dict[str, str], start: str) -> None:
    with pytest.raises(ConfigError) as error:
        load({**environment([]), **changes})
    assert str(error.value).startswith(start)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"job": ""}, "job"),
        ({"instance": 4}, "instance"),
        ({"url": None}, "url"),
        ({"url": "127.0.0.1:8000/metrics"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "http://[::1/metrics"}, "url"),
        ({"url": "http://host:99999/"}, "url"),
        ({"health_url": 3}, "health_url"),
        ({"labels": []}, "labels"),
        ({"labels": {"job": "x"}}, "labels.job"),
        ({"labels": {"a-b": "x"}}, "labels.a-b"),
        ({"labels": {"zone": 1}}, "labels.zone"),
        ({"adress": "x"}, "adress"),
    ],
)
def test_errors_name_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=r"MLOPS_TARGETS\[1\]") as error:
        load(environment([{**GOOD, "instance": "other"}, {**GOOD, **changes}]))
    assert str(error.value).startswith(f"MLOPS_TARGETS[1].{field}:")


def test_two_targets_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"MLOPS_TARGETS\[1\].instance: 'v4-0' occurs twice"):
        load(environment([GOOD, GOOD]))


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as error:
        load(environment([{**GOOD, "url": "http://user:hunter2@host/metrics"}]))
    assert "hunter2" not in str(error.value)


def test_the_program_says_it_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pulumi_mlops.runtime.monitor"],
        env={"PATH": os.environ["PATH"], "PORT": "9000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("mlops monitor: MLOPS_TARGETS: is not set")
    assert done.stderr.count("\n") == 1
