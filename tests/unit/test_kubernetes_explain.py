"""Why pods do not start, in words that name the thing and a fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.targets.kubernetes.api import explain

from .kubernetes_fixtures import (
    FakeCluster,
    begin,
    container,
    pod,
    replica_set,
    unschedulable,
    waiting,
    workload,
)  # fmt: skip


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


def told(cluster: FakeCluster, *pods: Any) -> str:
    return explain.pods(cluster, list(pods))


def test_ready_pods_need_no_explanation(cluster: FakeCluster) -> None:
    assert told(cluster, pod(ready=True)) == ""
    assert told(cluster, pod(), pod("b", ready=True)) == "pod tool-1-a: pending"


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        (
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
            "add a node with such a device",
        ),
        ("0/3 nodes are available: 3 Insufficient memory.", "add a node, or reduce"),
        (
            "0/1 nodes are available: 1 node(s) had untolerated taint {a: b}.",
            "add a node without taints",
        ),
        ("pod has unbound immediate PersistentVolumeClaims.", "mlops:kubernetes.storage_class"),
    ],
)
def test_no_node_takes_it(cluster: FakeCluster, message: str, fix: str) -> None:
    pending = unschedulable(message)
    cluster.warn(pending, "FailedScheduling", message)
    line = told(cluster, pending)
    assert line.startswith(f"pod tool-1-a: Unschedulable: {message} - ")
    assert fix in line
    assert line.count(message) == 1, "the event says the same once more"


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("ErrImagePull", "mlops:kubernetes.registry"),
        ("ImagePullBackOff", "push the image"),
        ("InvalidImageName", "mlops:kubernetes.registry"),
        ("CreateContainerConfigError", "a Secret or ConfigMap"),
    ],
)
def test_a_container_that_cannot_be_made(cluster: FakeCluster, reason: str, fix: str) -> None:
    line = told(cluster, pod(containerStatuses=waiting(reason, "the cluster's words")))
    assert line.startswith(f"pod tool-1-a: {reason}: the cluster's words - ")
    assert fix in line


def test_the_message_of_a_missing_image_names_it(cluster: FakeCluster) -> None:
    broken = pod(
        containerStatuses=waiting("ImagePullBackOff", 'Back-off pulling "r.example.com/a:1"')
    )
    cluster.warn(broken, "Failed", 'Failed to pull image "r.example.com/a:1":\n   not found')
    assert told(cluster, broken).splitlines()[1] == (
        '  Failed: Failed to pull image "r.example.com/a:1": not found'
    )


def test_too_little_memory(cluster: FakeCluster) -> None:
    last = {"exitCode": 137, "reason": "OOMKilled"}
    killed = pod(containerStatuses=container(2, last, waiting={"reason": "CrashLoopBackOff"}))
    assert told(cluster, killed) == "pod tool-1-a: OOMKilled - increase the memory limit"


def test_a_program_that_is_not_in_the_image(cluster: FakeCluster) -> None:
    message = 'exec: "python": executable file not found in $PATH'
    last = {"exitCode": 128, "reason": "StartError", "message": message}
    broken = pod(containerStatuses=container(2, last, waiting={"reason": "CrashLoopBackOff"}))
    line = told(cluster, broken)
    assert line.startswith(f"pod tool-1-a: StartError: {message} - the image does not belong to")


def test_the_log_before_the_restart_when_there_is_none_since(cluster: FakeCluster) -> None:
    cluster.previous_logs["tool-1-a"] = "it ends"
    last = {"exitCode": 2}
    broken = pod(containerStatuses=container(1, last, waiting={"reason": "CrashLoopBackOff"}))
    assert told(cluster, broken).splitlines() == [
        "pod tool-1-a: exit code 2",
        "  its log (kubectl logs tool-1-a) ends with:",
        "    it ends",
    ]


def test_a_pod_that_the_node_put_out(cluster: FakeCluster) -> None:
    evicted = pod(reason="Evicted", message="The node was low on resource: ephemeral-storage.")
    assert told(cluster, evicted).startswith("pod tool-1-a: Evicted: The node was low on")


def test_only_the_last_warnings_are_told_each_once(cluster: FakeCluster) -> None:
    slow = pod(phase="Running")
    for message in ("a", "b", "c", "c", "d"):
        cluster.warn(slow, "Unhealthy", message)
    cluster.warn(slow, "Pulled", "normal", type="Normal")
    assert told(cluster, slow).splitlines() == [
        "pod tool-1-a: running, but not ready",
        "  Unhealthy: d",
        "  Unhealthy: c",
        "  Unhealthy: b",
    ]


def test_events_without_a_time_or_text_do_no_harm(cluster: FakeCluster) -> None:
    slow = pod(phase="Running")
    cluster.warn(slow, "Odd", "x", lastTimestamp=None, eventTime=None)
    cluster.warn(slow, "Odder", None, lastTimestamp=None, eventTime="2026-01-01")
    assert "Odder: " in told(cluster, slow)


def test_who_may_not_read_events_is_told_the_rest(cluster: FakeCluster) -> None:
    cluster.forbidden = {"Event", "PersistentVolumeClaim"}
    pending = unschedulable("3 Insufficient cpu")
    pending["spec"]["volumes"] = [{"persistentVolumeClaim": {"claimName": "data"}}]
    assert told(cluster, pending).startswith("pod tool-1-a: Unschedulable: 3 Insufficient cpu")


def test_a_volume_that_no_class_makes(cluster: FakeCluster) -> None:
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
             "status": {"phase": "Pending"}}  # fmt: skip
    pending = unschedulable("pod has unbound immediate PersistentVolumeClaims.")
    pending["spec"]["volumes"] = [{"name": "x", "persistentVolumeClaim": {"claimName": "data"}}]
    cluster.put(claim)
    message = "no persistent volumes available for this claim and no storage class is set"
    cluster.warn(claim, "FailedBinding", message, type="Normal")
    lines = told(cluster, pending).splitlines()
    assert lines[1] == "  volume data: pending"
    assert lines[2].startswith(f"    FailedBinding: {message} - set mlops:kubernetes.storage_class")
    cluster.events.clear()
    cluster.warn(claim, "ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found')
    assert "mlops:kubernetes.storage_class" in told(cluster, pending).splitlines()[2]
    claim["status"] = {"phase": "Bound"}
    assert "volume data" not in told(cluster, pending)
    cluster.objects.clear()
    assert "volume data was deleted: run `pulumi refresh`" in told(cluster, pending)


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ('pods "tool-x" is forbidden: exceeded quota: all, requested: pods=1, used: pods=9, limited'
         ": pods=9", "raise the quota of the namespace"),
        ('pods "tool-x" is forbidden: violates PodSecurity "restricted:latest"', "must allow"),
        ('pods "tool-x" is forbidden: unable to create new content in namespace team because it is '
         "being terminated", "wait until the namespace is deleted"),
        ('pods "tool-x" is forbidden: no', "ask its administrator"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "Job"])
def test_pods_that_may_not_be_made(
    kind: str, message: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = begin(tmp_path, monkeypatch)
    it.cluster.put(workload(kind), replica_set())
    owner = replica_set() if kind == "Deployment" else workload(kind)
    it.cluster.warn(owner, "FailedCreate", f"Error creating: {message}")
    with pytest.raises(ResourceError) as refusal:
        it.create(kind, timeoutSeconds=5)
    first, second = str(refusal.value).splitlines()
    assert first == f"{kind} tool is not ready after 5 s"
    assert second.startswith(f"FailedCreate: Error creating: {message} - ")
    assert fix in second


def test_progress_in_a_few_words() -> None:
    assert explain.short([]) == "no pod yet"
    assert explain.short([pod("a", ready=True), pod("b"), unschedulable("x")]) == (
        "a ready, b pending, tool-1-a Unschedulable"
    )
