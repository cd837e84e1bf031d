"""The quality of an endpoint: predictions, labels, metrics, and a service that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
from platform_project import DEV, INVOCATION, Stack, until

pytestmark = pytest.mark.engine

MLOPS = Path(sys.executable).with_name("mlops")
SERVICE = "platform-quality-server"
COUNT, WRONG = 30, 5


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    changed = deepcopy(DEV)
    changed["platform:endpoints"]["penguins"]["quality"] = {
        "task": "classification", "label": "species", "slices": ["island"], "window": 5,
    }  # fmt: skip
    changed["platform:quality"] = {"interval": 1, "retain": False}
    return changed


@pytest.fixture(scope="module")
def monitored(platform: Stack, config: dict[str, Any]) -> Iterator[Stack]:
    platform.apply(config)
    yield platform
    platform.apply(DEV)


def mlops(stack: Stack, *arguments: str) -> str:
    done = subprocess.run(
        [str(MLOPS), *arguments, "--stack", stack.name, "--project", str(stack.project.folder)],
        capture_output=True, text=True, check=False, env={**stack.project.env, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def service(stack: Stack) -> list[int]:
    programs = stack.programs().items()
    return [pid for name, pids in programs if name.startswith(SERVICE) for pid in pids]


def kill(stack: Stack) -> None:
    """Kill the service, and wait until its supervisor has started it again."""
    (pid,) = service(stack)
    os.kill(pid, signal.SIGKILL)
    until(lambda: service(stack) not in ([], [pid]), "a new process")
    url = stack.outputs()["quality_url"]

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/health", trust_env=False).is_success
        except httpx.TransportError:
            return False

    until(answers, "the service answers")


def windows(stack: Stack) -> list[dict[str, Any]]:
    document = json.loads(mlops(stack, "quality", "penguins", "--json"))
    return [window for version in document["versions"] for window in version["windows"]]


def test_labels_become_quality_and_survive_kill_9(monitored: Stack) -> None:
    outputs = monitored.outputs()
    url = outputs["endpoints"]["penguins"]["url"]
    ids = []
    with httpx.Client(trust_env=False) as client:
        for _ in range(COUNT):
            answer = client.post(f"{url}/invocations", json=INVOCATION)
            assert answer.json()["predictions"] == ["Adelie"]
            ids.append(answer.headers["x-request-id"])
    file = monitored.project.folder / "labels.csv"
    lines = [f"{each},{'Gentoo' if i < WRONG else 'Adelie'}" for i, each in enumerate(ids)]
    file.write_text("\n".join(["id,species", *lines, ""]))
    sent = mlops(monitored, "labels", "send", "penguins", str(file))
    assert sent in (f"{COUNT} pending\n", f"{COUNT} accepted\n")
    kill(monitored)

    def final() -> list[dict[str, Any]]:
        found = windows(monitored)
        labelled = sum(window["labels"] for window in found if window["state"] == "final")
        return found if labelled == COUNT else []

    found = until(final, "every window with labels is final")
    accuracy = [(each["labels"], each["metrics"]["accuracy"]["value"]) for each in found
                if each["labels"]]  # fmt: skip
    assert sum(round(count * value) for count, value in accuracy) == COUNT - WRONG
    kill(monitored)
    assert windows(monitored) == found
    assert mlops(monitored, "labels", "send", "penguins", str(file)) == f"{COUNT} repeated\n"
    shown = mlops(monitored, "quality", "penguins")
    assert "final" in shown and f"{COUNT} repeated" in shown
    assert "penguins" in mlops(monitored, "drift", "penguins")

    def exposed() -> str:
        text = httpx.get(f"{outputs['dashboard_url']}/federate", trust_env=False).text
        return text if "mlops_model_quality_ratio{" in text else ""

    line = next(
        line for line in until(exposed, "the monitor has the metrics").splitlines()
        if line.startswith("mlops_model_quality_ratio{") and 'metric="accuracy"' in line
    )  # fmt: skip
    assert 'endpoint="penguins"' in line and 'job="quality"' in line
