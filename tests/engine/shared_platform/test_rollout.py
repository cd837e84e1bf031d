"""Blue-green, canary and rollback: a traffic table and `pulumi up`, under load."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from load import Load
from platform_project import DEV, INVOCATION, PENGUIN, Change, Stack

pytestmark = pytest.mark.engine

ENDPOINT = "platform-penguins-endpoint"


def traffic(**shares: int) -> dict[str, Any]:
    """The dev configuration after a second training, with this traffic table: v1=90, v2=10."""
    config = deepcopy(DEV)
    config["platform:pipelines"]["penguins"]["parameters"]["test-size"] = 0.3
    config["platform:endpoints"]["penguins"]["traffic"] = {
        version.removeprefix("v"): share for version, share in shares.items()
    }
    return config


@pytest.fixture
def load(platform: Stack) -> Iterator[Load]:
    """Sixteen keep-alive clients; the test fails when a single request does."""
    platform.apply(platform.applied or DEV)
    url = platform.outputs()["endpoints"]["penguins"]["url"]
    body = json.dumps(INVOCATION).encode()
    with Load(f"{url}/invocations", body, clients=16, pause=0.2) as clients:
        clients.wait(16)
        yield clients
        clients.wait(16)
    assert not clients.result().failures


def answered(load: Load, requests: int) -> dict[str, int]:
    """Which versions answer from now on, over so many requests."""
    before = load.wait(16)  # one of each client may have been under way
    return dict((load.wait(requests) - before).versions)


def servers(platform: Stack) -> dict[str, list[int]]:
    """The processes of the versions and of the proxy."""
    return {name: pids for name, pids in platform.programs().items() if name.startswith(ENDPOINT)}


def test_promotion_and_rollback_lose_no_request(platform: Stack, load: Load) -> None:
    platform.apply(traffic(v1=100, v2=0))  # trains again, warms version 2
    assert set(answered(load, 100)) == {"1"}
    warm = servers(platform)
    assert len(warm) == 3

    with platform.configured(traffic(v1=90, v2=10)):
        assert platform.changes() == {
            f"{ENDPOINT}-route": Change(
                "update", frozenset({"services.v1.weight", "services.v2.weight"})
            )
        }
    platform.apply(traffic(v1=90, v2=10))
    seen = answered(load, 600)
    total = sum(seen.values())
    # Four standard deviations of the binomial: a false alarm in 16,000 runs.
    assert abs(seen.get("2", 0) - total * 0.1) <= 4 * math.sqrt(total * 0.1 * 0.9)

    platform.apply(traffic(v1=0, v2=100))
    assert set(answered(load, 100)) == {"2"}
    platform.apply(traffic(v1=100, v2=0))
    assert set(answered(load, 100)) == {"1"}
    assert servers(platform) == warm, "weights only: nothing may have been restarted"

    platform.apply(traffic(v2=100))
    assert set(answered(load, 100)) == {"2"}
    left = servers(platform)
    assert len(left) == 2
    assert left.items() <= warm.items()
    outputs = platform.outputs()["endpoints"]["penguins"]
    assert (outputs["versions"], outputs["traffic"]) == (["2"], {"2": 100})


@pytest.fixture
def version_2(platform: Stack) -> None:
    """Version 2 is live alone, whatever the test before did."""
    if platform.applied != traffic(v2=100):
        platform.apply(traffic(v1=100, v2=0))
        platform.apply(traffic(v2=100))


def test_a_version_that_is_not_registered_is_refused_at_preview(
    platform: Stack, version_2: None
) -> None:
    with platform.configured(traffic(v2=90, v99=10)):
        output = platform.preview(expect_success=False)
    assert 'penguins has no version "99"' in output
    assert "Correct the traffic table of the endpoint" in output


def test_a_training_that_fails_puts_nothing_live(
    platform: Stack, version_2: None, load: Load
) -> None:
    before = servers(platform)
    wanted = traffic(v2=100)
    wanted["platform:pipelines"]["penguins"]["parameters"] |= {
        "regularization": 10000, "min-accuracy": 0.99,
    }  # fmt: skip
    platform.configure(wanted)
    output = platform.up(expect_success=False)
    assert "platform-penguins-pipeline-job ended with exit code 1" in output
    assert "the model is not registered: accuracy" in output
    assert (
        f"The whole log: {platform.root.path / 'logs' / 'platform-penguins-pipeline-job.log'}"
        in (output)
    )
    assert set(answered(load, 100)) == {"2"}
    assert servers(platform) == before
    platform.apply(traffic(v2=100))
    platform.preview("--expect-no-changes")
    assert servers(platform) == before


@pytest.fixture(scope="module")
def broken(platform: Stack) -> str:
    """The number of a registered version that fails every request."""
    return registered(platform, "broken.py", PENGUIN)


@pytest.fixture(scope="module")
def picky(platform: Stack) -> str:
    """The number of a registered version that answers its input example and nothing else."""
    return registered(platform, "picky.py", {**PENGUIN, "body_mass_g": 1.0})


def registered(platform: Stack, file: str, row: dict[str, Any]) -> str:
    """Register the model of a file with an input example; its number."""
    import mlflow  # noqa: PLC0415 - seconds of imports
    import pandas as pd  # noqa: PLC0415
    from mlflow.models import infer_signature  # noqa: PLC0415

    example = pd.DataFrame([row])
    # By the environment: what MLflow's own setters set would hold for every test that follows.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", platform.outputs()["tracking_url"])
        with mlflow.start_run():
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("fixture_models") / file),
                signature=infer_signature(example, ["Adelie"]),
                input_example=example,
                pip_requirements=["mlflow"],
                registered_model_name="penguins",
            )
    return str(logged.registered_model_version)


def test_a_version_that_fails_never_gets_a_request(
    platform: Stack, version_2: None, load: Load, broken: str
) -> None:
    before = servers(platform)
    wanted = traffic(**{"v2": 90, f"v{broken}": 10})
    platform.configure(wanted)
    output = platform.up(expect_success=False)
    assert "broken on purpose" in output
    assert "will not become ready" in output
    assert "Traceback" not in output.split("Diagnostics:")[1].split("Its last log lines")[0]
    assert set(answered(load, 100)) == {"2"}
    assert servers(platform) == before
    state = platform.resources()
    assert f"{ENDPOINT}-v{broken}" not in state
    assert {
        name: service["weight"]
        for name, service in state[f"{ENDPOINT}-route"]["outputs"]["services"].items()
    } == {"v2": 100}

    platform.apply(traffic(v2=100))
    platform.preview("--expect-no-changes")
    assert servers(platform) == before


def test_a_version_that_fails_its_first_requests_loses_its_weight(
    platform: Stack, version_2: None, picky: str
) -> None:
    url = platform.outputs()["endpoints"]["penguins"]["url"]
    before = servers(platform)
    body = json.dumps(INVOCATION).encode()
    with Load(f"{url}/invocations", body, clients=16, pause=0.1) as clients:
        clients.wait(16)
        platform.configure(traffic(**{"v2": 70, f"v{picky}": 30}))
        output = platform.up(expect_success=False)
        seen = clients.wait(16)
        assert set(answered(clients, 200)) == {"2"}
        after = clients.result() - seen
    assert f"v{picky} answered" in output
    assert "requests with a 5xx status, and 5.0% are allowed (input analysis)" in output
    assert "the previous weights are in effect again" in output
    assert not after.failures
    state = platform.resources()[f"{ENDPOINT}-route"]["outputs"]
    assert {name: each["weight"] for name, each in state["services"].items()} == {"v2": 100}
    assert state["served"] == ["v2"]

    platform.apply(traffic(v2=100))
    platform.preview("--expect-no-changes")
    assert servers(platform) == before
