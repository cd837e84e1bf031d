"""A route behind a real Gateway: nothing is lost on the way from version to version."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import gateway_api
import image
import pytest
from gateway_on_cluster import Gateway
from load import Load, Result
from mlops_project import MlopsProject

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1800)]

IMAGES = {"traefik": "mlops.test/traefik:1", "echo": "mlops.test/echo:1"}
PROGRAM = """
from pulumi_mlops.targets.port import Backend, RouteSpec

def version(number, ready="yes"):
    env = {"VERSION": number, "READY": ready}
    health = Health(path="/ready", timeout=60 if ready == "yes" else 4)
    spec = ServiceSpec(
        command=["/echo"], environment=image, env=env, health=health, replicas=2, routed=True,
    )
    return here.service(f"live-v{number}", spec, opts)

backends = {
    f"v{number}": Backend(service=version(number, *more), weight=weight, check_path="/ready")
    for number, weight, *more in TRAFFIC
}
made = here.route("live-route", RouteSpec(endpoint="live", backends=backends), opts)
pulumi.export("url", made.url)
"""


def program(*traffic: tuple[Any, ...]) -> str:
    return f"TRAFFIC = {traffic!r}\n{textwrap.dedent(PROGRAM)}"


@pytest.fixture(scope="module")
def gateway(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Traefik in the cluster, with a Gateway."""
    folder, programs = tmp_path_factory.mktemp("gateway"), gateway_api.binaries()
    for name, reference in IMAGES.items():
        image.pack(programs / name, reference, folder / f"{name}.tar")
        cluster.load(folder / f"{name}.tar")
        (folder / f"{name}.tar").unlink()
    made = Gateway(IMAGES["traefik"], gateway_api.definitions(programs))
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def live(light: Callable[..., MlopsProject], gateway: Gateway) -> MlopsProject:
    """Version 1 alone, up."""
    made = light(program(("1", 100)), images={"tool": IMAGES["echo"]}, gateway=gateway.settings())
    made.up()
    return made


@pytest.fixture
def load(live: MlopsProject, gateway: Gateway) -> Iterator[Load]:
    """Clients of the endpoint, by the URL that it says."""
    url = live.outputs()["url"]
    assert url == "http://live.open.test:8080"
    with Load(f"{url}/invocations", address=gateway.address, timeout=20) as running:
        yield running


def settled(load: Load, *versions: str) -> Result:
    """What is answered once these versions alone answer: a Gateway says that it has taken a route
    before all of its proxies have."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        before = load.wait(1)
        seen = load.wait(100) - before
        if set(seen.versions) == set(versions):
            return seen
    raise AssertionError(f"{versions} were to answer alone: {seen}")


def weights(live: MlopsProject) -> dict[str, int]:
    (rule,) = live.get("httproute/live-route")["spec"]["rules"]
    return {each["name"]: each["weight"] for each in rule["backendRefs"]}


def status(live: MlopsProject) -> dict[str, Any]:
    """What `mlops status` says of the one route."""
    command = [sys.executable, "-m", "pulumi_mlops.cli", "status", "--stack", "dev", "--json"]
    told = subprocess.run(
        command, cwd=live.folder, env=live.env, capture_output=True, text=True, timeout=120,
        check=False,
    ).stdout  # fmt: skip
    (route,) = json.loads(told)["routes"]
    return dict(route)


def test_a_canary_a_switch_a_rollback_and_a_removal_lose_no_request(
    live: MlopsProject, load: Load
) -> None:
    settled(load, "1")
    assert (status(live)["state"], status(live)["host"]) == ("taken", "live.open.test")
    live.write(program(("1", 90), ("2", 10)))
    live.up()
    settled(load, "1", "2")
    before = load.wait(1)
    canary = load.wait(1500) - before
    deviation = math.sqrt(0.1 * 0.9 / canary.requests)
    assert abs(canary.versions["2"] / canary.requests - 0.1) < 4 * deviation
    assert len(canary.servers) == 4, "every pod of both serves"
    warm = {pod["metadata"]["name"] for pod in live.get("pods")["items"]}

    live.write(program(("1", 0), ("2", 100)))
    live.up()
    settled(load, "2")
    assert weights(live) == {"live-v1": 0, "live-v2": 100}, "the old one stays warm"
    live.write(program(("1", 100), ("2", 0)))
    live.up()
    settled(load, "1")
    assert {pod["metadata"]["name"] for pod in live.get("pods")["items"]} == warm
    live.run("preview", "--expect-no-changes")
    # The API server has added nothing to the route, and left nothing of it out.
    live.run("refresh", "--preview-only", "--expect-no-changes")

    # One update that makes a version, gives it all of the traffic and takes the others away.
    live.write(program(("3", 100)))
    live.up()
    settled(load, "3")
    live.kubectl("wait", "pods", "--selector", "app.kubernetes.io/name in (live-v1, live-v2)",
                 "--for=delete", "--timeout", "60s")  # fmt: skip
    load.wait(200)
    assert not load.result().failures
    assert {each for each in live.objects() if "live-v" in each and "v3" not in each} == set()


def test_a_version_that_is_not_ready_gets_nothing(live: MlopsProject, load: Load) -> None:
    live.write(program(("1", 50), ("2", 50, "no")))
    told = live.up(fails=True)
    load.wait(200)
    assert "Deployment live-v2 cannot start" in told
    assert weights(live) == {"live-v1": 100}
    assert set(load.result().versions) == {"1"}
    assert not load.result().failures
    live.write(program(("1", 50), ("2", 50)))
    live.up()
    settled(load, "1", "2")
    assert not load.result().failures


def test_a_pod_that_goes_loses_no_request(live: MlopsProject, load: Load) -> None:
    load.wait(100)
    for pod in live.get("pods")["items"]:
        live.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
        live.kubectl("rollout", "status", "deployment/live-v1", "--timeout", "120s")
        load.wait(200)
    assert not load.result().failures


def test_a_gateway_that_does_not_let_it_in_is_told(live: MlopsProject, gateway: Gateway) -> None:
    live.settings["gateway"] = gateway.settings("closed")
    told = live.up(fails=True)
    assert "HTTPRoute live-route is not accepted by its Gateway" in told
    assert "not Accepted: NotAllowedByListeners" in told
    assert "allowedRoutes.namespaces" in told
    refused = status(live)
    assert (refused["healthy"], refused["state"]) == (False, "refused")
    assert "NotAllowedByListeners" in refused["reason"]
    live.settings["gateway"] = {**gateway.settings(), "name": "none"}
    told = live.up(fails=True)
    assert f"there is no Gateway none in namespace {gateway.namespace}" in told
    live.settings["gateway"] = gateway.settings()
    live.up()


def test_only_the_gateway_may_call_the_versions(live: MlopsProject, load: Load) -> None:
    load.wait(50)
    (address, _) = (pod["status"]["podIP"] for pod in live.get("pods")["items"])
    with pytest.raises(OSError, match=r"timed out|refused"):
        socket.create_connection((address, 8080), 3)
    assert not load.result().failures
