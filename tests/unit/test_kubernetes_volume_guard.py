"""`mlops:kubernetes:VolumeGuard` on a cluster in memory: no update replaces a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.plugin.errors import ResourceError, UnreachableError
from pulumi_mlops.targets.kubernetes.resources.volume_guard import (
    VolumeGuardHandler,
    VolumeGuardInputs,
)

from .kubernetes_fixtures import FakeCluster
from .provider_fixtures import make_context


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def handler(cluster: FakeCluster) -> VolumeGuardHandler:
    return VolumeGuardHandler(cluster)  # type: ignore[arg-type]


@pytest.fixture
def ctx(tmp_path: Path) -> Any:
    return make_context(tmp_path, VolumeGuardHandler.token)


def inputs(storage_class: str | None) -> VolumeGuardInputs:
    return VolumeGuardInputs(namespace="team", name="data", storage_class=storage_class)


def put(cluster: FakeCluster, **metadata: Any) -> None:
    cluster.put({
        "kind": "PersistentVolumeClaim", "metadata": {"name": "data", **metadata},
        "spec": {"storageClassName": "fast"},
    })  # fmt: skip


@pytest.mark.parametrize(("old", "new"), [("fast", "slow"), ("fast", None), (None, "slow")])
def test_another_storage_class_is_refused(
    handler: VolumeGuardHandler, ctx: Any, old: Any, new: Any
) -> None:
    with pytest.raises(ResourceError, match="would replace the volume with an empty one") as error:
        handler.refuse_change(ctx, {"storageClass"}, {"storageClass": old}, inputs(new))
    assert (old or "the cluster's default storage class") in str(error.value)
    handler.refuse_change(ctx, {"name"}, {"storageClass": old}, inputs(new))


def test_the_claim_itself_is_compared(
    handler: VolumeGuardHandler, ctx: Any, cluster: FakeCluster
) -> None:
    """As for a stack of an older version, whose state has no guard, or a claim that was kept."""
    handler.preview(ctx, inputs("slow"), None)
    put(cluster)
    for accepted in ("fast", None):
        handler.preview(ctx, inputs(accepted), None)
        assert handler.create(ctx, inputs(accepted)) == ("team/data", {})
    for work in (lambda: handler.preview(ctx, inputs("slow"), None),
                 lambda: handler.create(ctx, inputs("slow"))):  # fmt: skip
        with pytest.raises(ResourceError, match="data, which has storage class fast"):
            work()


@pytest.mark.parametrize(("operation", "refuses"), [("Apply", True), ("Update", False)])
def test_a_removed_storage_class_is_refused_without_a_guard_in_the_state(
    handler: VolumeGuardHandler, ctx: Any, cluster: FakeCluster, operation: str, refuses: bool
) -> None:
    """As in the first update after version 0.1.0. The cluster sets its default by an Update."""
    put(cluster, managedFields=[
        {"manager": "kubelet", "operation": "Update"},
        {"manager": "pulumi", "operation": "Apply", "fieldsV1": {"f:spec": {"f:resources": {}}}},
        {"operation": operation, "fieldsV1": {"f:spec": {"f:storageClassName": {}}}},
    ])  # fmt: skip
    for request in (lambda: handler.preview(ctx, inputs(None), None),
                    lambda: handler.create(ctx, inputs(None))):  # fmt: skip
        if not refuses:
            request()
            continue
        with pytest.raises(ResourceError, match=r"cannot become null .* storage class fast"):
            request()
    handler.preview(ctx, inputs("fast"), None)


def test_a_claim_that_is_being_deleted_is_not_adopted(
    handler: VolumeGuardHandler, ctx: Any, cluster: FakeCluster
) -> None:
    put(cluster, deletionTimestamp="now")
    with pytest.raises(ResourceError, match=r"is being deleted\. It exists until no pod uses it"):
        handler.preview(ctx, inputs("fast"), None)


def test_without_a_cluster_it_compares_the_state_alone(
    handler: VolumeGuardHandler, ctx: Any, cluster: FakeCluster
) -> None:
    cluster.fails = UnreachableError("no cluster answers")
    assert handler.preview(ctx, inputs("slow"), None) == {}
    assert handler.read(ctx, "team/data", {"namespace": "team", "name": "data"}) == {}


def test_a_claim_that_is_gone_takes_its_guard_along(
    handler: VolumeGuardHandler, ctx: Any, cluster: FakeCluster
) -> None:
    state = {"namespace": "team", "name": "data"}
    assert handler.read(ctx, "team/data", state) is None
    put(cluster)
    assert handler.read(ctx, "team/data", state) == {}
