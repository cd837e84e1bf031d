"""`mlops:kubernetes:Ready` for jobs: what they leave, how they fail, and how they run again."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.plugin.errors import ResourceError

from .kubernetes_fixtures import Ready, begin, ended, job, pod, unschedulable, waiting


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(*steps: Any) -> Ready:
        return begin(tmp_path, monkeypatch, *steps)

    return make


def refused(ready: Ready, kind: str = "Deployment", **inputs: Any) -> str:
    with pytest.raises(ResourceError) as refusal:
        ready.create(kind, **inputs)
    return str(refusal.value)


def test_a_job_leaves_outputs(ready: Any) -> None:
    it: Ready = ready(None, lambda: it.cluster.put(job("Complete")))
    it.cluster.put(job(), pod(containerStatuses=ended('{"version": "3"}')))
    assert it.create("Job") == {"outputs": {"version": "3"}, "status": "ready"}


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_job_need_not_leave_any(ready: Any, text: str) -> None:
    it = ready()
    it.cluster.put(job("Complete"), pod(containerStatuses=ended(text)))
    assert it.create("Job")["outputs"] == {}


@pytest.mark.parametrize("text", ["no JSON", "[1]", '"text"', json.dumps({"a": "x" * 5000})[:4096]])
def test_outputs_that_cannot_be_are_told(ready: Any, text: str) -> None:
    it = ready()
    it.cluster.put(job("Complete"), pod(containerStatuses=ended(text)))
    told = refused(it, "Job")
    assert "job tool wrote outputs that are not a JSON object of at most 4096 bytes" in told
    assert "MLOPS_OUTPUTS" in told


def test_what_a_pod_that_was_taken_away_left_is_no_output(ready: Any) -> None:
    """Its message is the end of its log."""
    it = ready()
    it.cluster.put(job("Complete"), pod("tool-1-a", containerStatuses=ended("epoch 3", 143)))
    it.cluster.put(pod("tool-1-b", containerStatuses=ended('{"version": "3"}')))
    assert it.create("Job")["outputs"] == {"version": "3"}


def test_a_job_that_fails_is_told_with_its_log(ready: Any) -> None:
    it: Ready = ready(lambda: it.cluster.put(job("Failed", "Job has reached the backoff limit")))
    it.cluster.put(job(), pod(containerStatuses=ended(code=1)))
    it.cluster.logs["tool-1-a"] = "ValueError: no penguins"
    told = refused(it, "Job")
    assert told.startswith("Job tool failed (Job has reached the backoff limit)\n")
    assert "pod tool-1-a: exit code 1" in told
    assert "ValueError: no penguins" in told


def test_one_that_took_too_long_tells_of_the_pods_that_it_had(ready: Any) -> None:
    def late() -> None:
        it.cluster.objects.clear()
        it.cluster.put(job("Failed", "Job was active longer than specified deadline"))

    it: Ready = ready(None, late)
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    it.cluster.put(job(), unschedulable(message))
    assert message in refused(it, "Job")


def test_a_job_whose_image_is_not_there_does_not_take_all_its_time(ready: Any) -> None:
    it = ready()
    it.cluster.put(job(), pod(containerStatuses=waiting("ImagePullBackOff")))
    assert "cannot start" in refused(it, "Job", timeoutSeconds=86400)
    assert it.ctx.cancelled.now < 1020


def test_an_update_that_comes_back_to_a_failed_job_runs_it_again(ready: Any) -> None:
    def runs() -> None:
        it.cluster.put(job("Complete"))
        it.cluster.put(pod(containerStatuses=ended('{"version": "2"}')))

    it: Ready = ready(runs)
    failed = job("Failed")
    failed["metadata"] |= {
        "namespace": "team", "labels": {"a": "b"}, "annotations": {"c": "d"}, "uid": "1",
        "resourceVersion": "5", "creationTimestamp": "then", "ownerReferences": [],
        "managedFields": [{"manager": "kube", "operation": "Update"},
                          {"manager": "pulumi-kubernetes-1", "operation": "Apply"}],
    }  # fmt: skip
    own = {"batch.kubernetes.io/controller-uid": "1", "controller-uid": "1",
           "batch.kubernetes.io/job-name": "tool", "job-name": "tool"}  # fmt: skip
    failed["spec"] = {
        "backoffLimit": 0, "selector": {"matchLabels": {"controller-uid": "1"}},
        "template": {"metadata": {"labels": {"app": "tool", **own}, "creationTimestamp": None},
                     "spec": {"restartPolicy": "Never"}},
    }  # fmt: skip
    before = copy.deepcopy(failed)
    it.cluster.put(failed)

    def applied(kind: str, manifest: Any, manager: str) -> None:
        it.cluster.applied.append((manifest, manager))
        it.cluster.put(job())

    it.cluster.apply = applied
    assert it.create("Job")["outputs"] == {"version": "2"}
    assert it.log.of("info") == ["job tool had failed: it runs again"]
    assert it.cluster.done == [("delete", "tool")]
    ((manifest, manager),) = it.cluster.applied
    assert manager == "pulumi-kubernetes-1", "Pulumi goes on to own its fields"
    assert manifest == {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "tool", "namespace": "team", "labels": {"a": "b"},
                     "annotations": {"c": "d"}},
        "spec": {"backoffLimit": 0,
                 "template": {"metadata": {"labels": {"app": "tool"}},
                              "spec": {"restartPolicy": "Never"}}},
    }  # fmt: skip
    assert failed == before
