"""The platform on a real cluster: trained in a Job, served from pods, switched under load."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from load import Load
from platform_on_cluster import ENDPOINT, Platform, little

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def up(platform: Platform) -> Platform:
    platform.up()
    return platform


@pytest.fixture
def live(up: Platform) -> Platform:
    """The platform with version 1 getting all requests, whatever the test before did to it."""
    up.route({"1": 100})
    up.up()
    return up


def kill_server_of(pod: str) -> None:
    """As a fault does it: from within its own namespace nobody can kill a pod's first process."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"POD={pod}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
                return
    raise LookupError(f"no process of {pod} runs on this machine")


def test_it_trains_and_serves(up: Platform) -> None:
    url, body = up.request()
    answer = httpx.post(url, content=body, headers={"content-type": "application/json"})
    assert answer.json() == {"predictions": ["Gentoo"]}
    assert answer.headers["x-model-version"] == "1"


def test_nothing_changes_twice(up: Platform) -> None:
    up.preview("--expect-no-changes")
    up.run("pulumi", "refresh", "--preview-only", "--expect-no-changes")


def test_every_pod_is_restricted(up: Platform) -> None:
    level = up.get("namespace", up.namespace)["metadata"]["labels"]
    assert level["pod-security.kubernetes.io/enforce"] == "restricted"
    assert len(up.get("pods")["items"]) >= 8


def test_only_the_flows_that_are_needed(up: Platform) -> None:
    """Who may call whom: tried from the pods themselves."""
    database = "platform-tracking-database-server", 8080
    store = "platform-artifacts-server", 8080
    (model,) = up.pods(f"{ENDPOINT}-v1")[:1]
    (tracking,) = up.pods("platform-tracking-server")

    def reaches(pod: dict[str, Any], host: str, port: int) -> bool:
        program = f"import socket; socket.create_connection(('{host}', {port}), 3)"
        name = pod["metadata"]["name"]
        told = up.kubectl("exec", name, "--", "python", "-c", program, fails=None)
        assert "Traceback" not in told or "TimeoutError" in told, told
        return "Traceback" not in told

    assert reaches(model, *store)
    assert reaches(tracking, *database)
    assert not reaches(model, *database)
    assert not reaches(tracking, f"{ENDPOINT}-v1", 8080)


def test_no_secret_is_told(up: Platform) -> None:
    outputs = up.outputs()
    secrets = {key: value for key, value in outputs["client_env"].items() if "SECRET" in key}
    password = up.kubectl(
        "get", "secret", "platform-tracking-database-server-secrets",
        "--template", "{{.data.POSTGRESQL_PASSWORD | base64decode}}",
    )  # fmt: skip
    assert secrets and password
    everything = up.state() + up.preview() + "".join(
        up.kubectl("get", kind, "--output", "yaml")
        for kind in ("deployments", "statefulsets", "jobs", "configmaps", "pods", "events")
    )  # fmt: skip
    for pod in up.get("pods")["items"]:
        everything += up.kubectl("logs", pod["metadata"]["name"])
    for secret in (*secrets.values(), password):
        assert secret not in everything


def test_a_canary_a_switch_and_a_rollback_lose_no_request(live: Platform) -> None:
    with Load(*live.request()) as load:
        load.wait(200)
        live.train(8)
        live.route({"1": 90, "2": 10})
        live.up()
        before = load.wait(1)
        canary = load.wait(1000) - before
        assert 85 <= canary.versions["2"] <= 115  # exact but for what was under way
        for traffic in ({"1": 0, "2": 100}, {"1": 100, "2": 0}, {"2": 100}):
            live.route(traffic)
            live.up()
            before = load.wait(20)
            (winner,) = [version for version, share in traffic.items() if share]
            assert set((load.wait(200) - before).versions) == {winner}
    assert not load.result().failures
    assert not live.pods(f"{ENDPOINT}-v1")


def test_a_version_that_does_not_start_never_gets_a_request(live: Platform) -> None:
    live.config["mlops:kubernetes"]["images"] = {ENDPOINT: "mlops.test/dev/none@sha256:" + 64 * "0"}
    live.train(8)
    live.route({"1": 50, "2": 50})
    with Load(*live.request()) as load:
        told = live.up(fails=True)
        load.wait(200)
    del live.config["mlops:kubernetes"]["images"]
    assert not load.result().failures
    assert set(load.result().versions) == {"1"}
    assert f"Deployment {ENDPOINT}-v2 cannot start" in told
    assert "mlops.test/dev/none" in told
    assert "push the image, or correct mlops:kubernetes.registry or images" in told


def test_a_hand_made_change_is_drift_and_is_put_right(live: Platform) -> None:
    live.kubectl("scale", f"deployment/{ENDPOINT}-v1", "--replicas", "1")
    told = live.run("pulumi", "refresh", "--yes", "--skip-preview")
    assert "1 updated" in told or "~" in told
    live.up()
    assert live.get("deployment", f"{ENDPOINT}-v1")["spec"]["replicas"] == 2


def test_pods_that_go_lose_no_request(live: Platform) -> None:
    names = (f"{ENDPOINT}-v1", f"{ENDPOINT}-route")
    with Load(*live.request()) as load:
        load.wait(200)
        for name in names:
            for pod in live.pods(name):
                live.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
                live.kubectl("rollout", "status", f"deployment/{name}", "--timeout", "120s")
                load.wait(100)
    assert not load.result().failures


def test_a_killed_container_loses_no_request(live: Platform) -> None:
    (pod, _) = live.pods(f"{ENDPOINT}-v1")
    name = pod["metadata"]["name"]
    with Load(*live.request()) as load:
        load.wait(200)
        kill_server_of(name)
        live.kubectl("wait", f"pod/{name}", "--for=condition=Ready=false", "--timeout", "60s")
        live.kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout", "120s")
        load.wait(200)
    assert not load.result().failures


def test_an_eviction_leaves_one_of_two(live: Platform) -> None:
    """As `kubectl drain` does it: the budget lets one pod go, and the next when that is back."""
    first, second = live.pods(f"{ENDPOINT}-v1")

    def evict(pod: dict[str, object]) -> str:
        name = pod["metadata"]["name"]  # type: ignore[index]
        eviction = {
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": live.namespace},
        }  # fmt: skip
        path = f"/api/v1/namespaces/{live.namespace}/pods/{name}/eviction"
        done = subprocess.run(
            ["kubectl", "create", "--raw", path, "-f", "-"], input=json.dumps(eviction),
            env=live.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    with Load(*live.request()) as load:
        load.wait(200)
        assert "Success" in evict(first)
        assert "disruption budget" in evict(second)
        live.kubectl("rollout", "status", f"deployment/{ENDPOINT}-v1", "--timeout", "120s")
        load.wait(200)
    assert not load.result().failures


def test_the_database_comes_back_with_its_data(live: Platform) -> None:
    live.kubectl("delete", "pod", "platform-tracking-database-server-0")
    live.kubectl("rollout", "status", "statefulset/platform-tracking-database-server",
                 "--timeout", "120s")  # fmt: skip
    url = live.outputs()["tracking_url"]
    found = httpx.get(
        f"{live.address(url)}/api/2.0/mlflow/registered-models/get", params={"name": "penguins"},
        headers={"host": httpx.URL(url).host}, timeout=60,
    )  # fmt: skip
    assert found.json()["registered_model"]["name"] == "penguins"


def test_the_kubelet_may_be_restarted(live: Platform, cluster: object) -> None:
    with Load(*live.request()) as load:
        load.wait(200)
        cluster.restart("kubelet")  # type: ignore[attr-defined]
        load.wait(500)
    assert not load.result().failures


def test_what_cannot_be_scheduled_is_told(live: Platform) -> None:
    live.route({"1": 100}, resources={"gpu": 1}, startup_timeout=20)
    with Load(*live.request()) as load:
        told = live.up(fails=True)
        load.wait(100)
    live.route({"1": 100}, startup_timeout=180, **little())
    assert not load.result().failures
    assert f"Deployment {ENDPOINT}-v" in told
    assert "Insufficient nvidia.com/gpu" in told


def test_a_quota_that_is_used_up_is_told(live: Platform) -> None:
    running = [pod for pod in live.get("pods")["items"] if pod["status"]["phase"] == "Running"]
    live.config["mlops:kubernetes"]["quota"] = {"pods": len(running)}
    live.route({"1": 100}, replicas=3)
    told = live.up(fails=True)
    del live.config["mlops:kubernetes"]["quota"]
    live.route({"1": 100}, replicas=2)
    assert "exceeded quota: quota" in told
    assert f"Deployment {ENDPOINT}-v1" in told


def test_a_context_that_is_not_there_is_told(live: Platform) -> None:
    live.config["mlops:kubernetes"]["context"] = "elsewhere"
    told = live.preview(fails=None)
    del live.config["mlops:kubernetes"]["context"]
    assert "elsewhere" in told
