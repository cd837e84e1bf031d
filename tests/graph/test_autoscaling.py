"""A version of which there are more servers when they are busy, on Pulumi's mocks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pulumi
import pytest

import pulumi_mlops as mlops
from pulumi_mlops.targets.port import EnvironmentSpec, ServiceSpec, resolve

CONFIG = {
    "mlops:target": "kubernetes",
    "mlops:kubernetes": json.dumps({"registry": "registry.example.com"}),
}
SCALER = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"
SERVER = "platform-live-endpoint-v1"


def platform(**endpoint: Any) -> Callable[[], Any]:
    live = {"model": "m", "requirements": ["scikit-learn"], "traffic": {"1": 100}, **endpoint}
    return lambda: mlops.MlopsPlatform("platform", {"endpoints": {"live": live}})


def spec_of(graph: Any, name: str = SERVER) -> Any:
    return graph[name].inputs["spec"]


def test_an_autoscaler_decides_between_two_numbers(provision: Any, project: Path) -> None:
    graph = provision(platform(replicas=2, max_replicas=8, resources={"cpu": 1}), CONFIG)
    (scaler,) = graph.of(SCALER).values()
    kubernetes_validate.validate(scaler.inputs, "1.34", strict=True)
    spec = scaler.inputs["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 8)
    assert spec["scaleTargetRef"]["name"] == graph[SERVER].inputs["metadata"]["name"]
    assert graph[SERVER].urn in scaler.depends_on
    (metric,) = spec["metrics"]
    assert metric["resource"]["name"] == "cpu"
    (container,) = spec_of(graph)["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["cpu"] == "1000m"


def test_what_the_autoscaler_decides_is_ignored(provision: Any, project: Path) -> None:
    """A number all the same: without one the API server would begin anew with one pod."""
    graph = provision(platform(replicas=2, max_replicas=8), CONFIG)
    assert spec_of(graph)["replicas"] == 2
    assert graph[SERVER].ignore_changes == {"spec.replicas"}
    assert not graph["platform-live-endpoint-route"].ignore_changes
    assert graph.of(SCALER).keys() == {f"{SERVER}-scaler"}
    fixed = provision(platform(replicas=2), CONFIG)
    assert spec_of(fixed)["replicas"] == 2
    assert not fixed[SERVER].ignore_changes
    assert not fixed.of(SCALER)


def test_a_rendered_manifest_does_not_say_what_the_autoscaler_decides(
    provision: Any, project: Path
) -> None:
    rendered = {"mlops:kubernetes": json.dumps({**json.loads(CONFIG["mlops:kubernetes"]),
                                                "render_to": "out"})}  # fmt: skip
    graph = provision(platform(replicas=2, max_replicas=8), CONFIG | rendered)
    assert "replicas" not in spec_of(graph)
    assert graph.of(SCALER)


def test_its_wait_asks_for_the_least_and_not_for_a_generation(
    provision: Any, project: Path
) -> None:
    """Which changes each time that the autoscaler acts: after a refresh that would be a change."""

    def wait(**more: Any) -> Any:
        graph = provision(platform(replicas=2, max_replicas=8, **more), CONFIG)
        assert graph[f"{SERVER}-scaler"].urn in graph[f"{SERVER}-ready"].depends_on
        return graph[f"{SERVER}-ready"].inputs

    first = wait()
    assert first["replicas"] == 2
    assert "generation" not in first
    assert first == wait()
    assert first["content"] != wait(resources={"cpu": 2})["content"]
    assert re.fullmatch("[0-9a-f]{8}", first["content"])


@pytest.mark.parametrize(("replicas", "most"), [(1, 4), (2, None), (2, 2), (1, None), (1, 1)])
def test_where_there_may_be_two_one_stays(
    replicas: int, most: int | None, provision: Any, project: Path
) -> None:
    graph = provision(platform(replicas=replicas, max_replicas=most), CONFIG)
    several = (most or replicas) > 1
    assert (f"{SERVER}-budget" in graph.of("kubernetes:policy/v1:PodDisruptionBudget")) is several
    assert ("topologySpreadConstraints" in spec_of(graph)["template"]["spec"]) is several


def test_a_preview_has_the_autoscaler(provision: Any, project: Path) -> None:
    program = platform(max_replicas=3)
    assert provision(program, CONFIG, preview=True).urns() == provision(program, CONFIG).urns()


def test_the_local_target_refuses_it(provision: Any, project: Path) -> None:
    with pytest.raises(pulumi.RunError) as refusal:
        provision(platform(max_replicas=3))
    for named in (
        f"{SERVER}: max_replicas is not supported",
        "`replicas`",
        "(mlops:target): kubernetes",
    ):
        assert named in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"replicas": 3, "max_replicas": 2},
            "platform.endpoints.live.max_replicas: is 2: must be at least as many as `replicas`, 3",
        ),
        ({"max_replicas": 0}, "platform.endpoints.live.max_replicas: must be at least 1"),
        ({"max_replicas": 65}, "platform.endpoints.live.max_replicas: must be at most 64"),
        ({"max_replicas": True}, "platform.endpoints.live.max_replicas: must be a number, not"),
    ],
)
def test_a_number_that_cannot_be_is_refused(
    given: Any, message: str, provision: Any, project: Path
) -> None:
    with pytest.raises(pulumi.RunError, match=f"^{re.escape(message)}"):
        provision(platform(**given), CONFIG)


def test_data_is_for_one_pod(provision: Any, project: Path) -> None:
    def program() -> None:
        target, opts = resolve(), pulumi.ResourceOptions()
        made = target.environment("tool-environment", EnvironmentSpec(requirements=[]), opts)
        data = target.volume("tool-data", True, opts)
        spec = ServiceSpec(command=["serve"], environment=made, data=data, max_replicas=2)
        target.service("tool", spec, opts)

    with pytest.raises(pulumi.RunError, match="tool: data of 2 replicas is not supported"):
        provision(program, CONFIG)
