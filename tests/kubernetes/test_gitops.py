"""A platform that is rendered into files, applied by somebody else: it trains and serves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from platform_on_cluster import ENDPOINT, Platform
from platform_project import INVOCATION

from .conftest import bring_images, new_platform

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(2400)]

FOLDER = "clusters/ml"
SECONDS = 900


@pytest.fixture(scope="module")
def platform(
    cluster: Any, docker: Any, options: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("gitops")
    made = new_platform(folder, cluster, options)
    made.config["mlops:kubernetes"]["render_to"] = FOLDER
    bring_images(made, cluster, docker, folder)
    # Whoever renders has no way to the cluster.
    made.env |= {"KUBECONFIG": str(folder / "there-is-none")}
    yield made
    made.destroy()
    assert not list((made.folder / FOLDER).rglob("*.yaml"))
    apply(made, "delete", "namespace", made.namespace, "--ignore-not-found")


def apply(platform: Platform, *command: str) -> str:
    """What kubectl says, of somebody who reaches the cluster."""
    return with_cluster(platform, lambda: platform.run("kubectl", *command))


def with_cluster(platform: Platform, work: Callable[[], Any]) -> Any:
    before = platform.env
    platform.env = {**before, "KUBECONFIG": os.environ["KUBECONFIG"]}
    try:
        return work()
    finally:
        platform.env = before


def until_it_answers(platform: Platform, version: str | None = None) -> httpx.Response:
    """The answer to a prediction, by this version if one is told; the tools of GitOps do not wait
    either."""
    service = f"{ENDPOINT}-route"
    host = with_cluster(platform, lambda: platform.get("service", service))["spec"]["clusterIP"]
    end = time.monotonic() + SECONDS
    told = ""
    while time.monotonic() < end:
        try:
            answer = httpx.post(f"http://{host}:8080/invocations", json=INVOCATION, timeout=10)
            if answer.is_success and version in (None, answer.headers.get("x-model-version")):
                return answer
            told = f"{answer.status_code} {answer.text[:200]}"
        except httpx.HTTPError as error:
            told = str(error)
        time.sleep(2)
    pods = with_cluster(platform, lambda: platform.kubectl("get", "pods", "--output", "wide"))
    raise AssertionError(f"no version {version} after {SECONDS} s: {told}\n{pods}")


@pytest.fixture(scope="module")
def applied(platform: Platform) -> Platform:
    platform.up()
    (namespace,) = (platform.folder / FOLDER).glob("1-manifest/v1-namespace-*.yaml")
    # As the tools do it: the namespace before what is in it.
    apply(platform, "apply", "--filename", str(namespace))
    apply(platform, "apply", "--recursive", "--filename", FOLDER)
    # Last: pods wait for their Secrets.
    hand_over(platform)
    return platform


def hand_over(platform: Platform) -> None:
    line = "mlops secrets --stack test | kubectl apply --filename -"
    with_cluster(platform, lambda: platform.run("sh", "-c", line))


def test_it_trains_and_serves(applied: Platform) -> None:
    answer = until_it_answers(applied, "1")
    assert answer.json() == {"predictions": ["Adelie"]}
    for job in with_cluster(applied, lambda: applied.get("jobs"))["items"]:
        assert job["status"].get("succeeded") == 1, job["metadata"]["name"]
        assert not job["status"].get("failed"), job["metadata"]["name"]


def test_applying_it_again_changes_nothing(applied: Platform) -> None:
    until_it_answers(applied)
    applied.preview("--expect-no-changes")
    told = apply(applied, "apply", "--recursive", "--filename", FOLDER)
    changed = [line for line in told.splitlines() if not line.endswith(" unchanged")]
    # kubectl always sends a budget's selector, which can only be replaced as a whole.
    assert {line.partition("/")[0] for line in changed} == {"poddisruptionbudget.policy"}, told


def test_a_promotion_is_another_commit(applied: Platform) -> None:
    until_it_answers(applied)
    applied.train(8)
    applied.route({"1": 0, "2": 100})
    applied.up()
    apply(applied, "apply", "--recursive", "--filename", FOLDER)
    hand_over(applied)
    until_it_answers(applied, "2")


def test_the_commands_work_for_who_reaches_the_cluster(applied: Platform) -> None:
    until_it_answers(applied)  # by itself, too, which is how CI runs what failed
    status = with_cluster(applied, lambda: applied.run("mlops", "status", "--stack", "test"))
    assert ENDPOINT in status
    told = with_cluster(
        applied,
        lambda: applied.run("mlops", "connect", "--stack", "test", "--", "env"),
    )
    assert "MLFLOW_TRACKING_URI=http://127.0.0.1" in told
