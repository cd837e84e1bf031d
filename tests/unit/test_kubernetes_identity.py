"""`mlops:kubernetes:ClusterIdentity` on a cluster in memory: whether it is the recorded cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.plugin.errors import ResourceError, UnreachableError
from pulumi_mlops.targets.kubernetes.api.errors import RefusedError
from pulumi_mlops.targets.kubernetes.api.location import Where
from pulumi_mlops.targets.kubernetes.resources.cluster_identity import (
    ClusterFacts,
    ClusterIdentityHandler,
    ClusterIdentityInputs,
)

from .kubernetes_fixtures import FakeCluster
from .provider_fixtures import Log, make_context

SYSTEM = "api/v1/namespaces/kube-system"
AUTHORITY = "api/v1/namespaces/team/configmaps/kube-root-ca.crt"
INPUTS = ClusterIdentityInputs(namespace="team")


def a_cluster(uid: str = "uid-1", authority: str = "CA 1") -> FakeCluster:
    made = FakeCluster()
    made.paths = {
        SYSTEM: {"metadata": {"uid": uid}},
        AUTHORITY: {"data": {"ca.crt": f"{authority}\n"}},
        f"{SYSTEM}/configmaps/kube-root-ca.crt": {"data": {"ca.crt": authority}},
    }
    return made


def limited(cluster: FakeCluster) -> FakeCluster:
    """The same for somebody who has a role in the namespace alone."""
    cluster.forbidden = {path for path in cluster.paths if path.startswith(SYSTEM)}
    return cluster


class On:
    """The handler as the plugin calls it with a kubeconfig of this cluster."""

    def __init__(self, root: Path, cluster: FakeCluster) -> None:
        self.handler = ClusterIdentityHandler(cluster)  # type: ignore[arg-type]
        self.ctx = make_context(root, self.handler.token, parents="", log=Log())

    def create(self) -> tuple[str, dict[str, Any]]:
        return self.handler.create(self.ctx, INPUTS)

    def preview(self, old: dict[str, Any] | None) -> dict[str, Any]:
        return self.handler.preview(self.ctx, INPUTS, old)

    def drift(self, state: dict[str, Any]) -> dict[str, str]:
        return self.handler.drift(self.ctx, state["identifier"], state)

    def read(self, state: dict[str, Any]) -> dict[str, Any] | None:
        return self.handler.read(self.ctx, state["identifier"], state)


def outputs(state: dict[str, Any]) -> dict[str, Any]:
    return {key: state[key] for key in ClusterIdentityHandler.outputs}


def created(root: Path, cluster: FakeCluster) -> dict[str, Any]:
    resource_id, made = On(root, cluster).create()
    assert resource_id == made["identifier"]
    return {"namespace": "team", **made}


def refusal(root: Path, cluster: FakeCluster, state: dict[str, Any]) -> str:
    told = set()
    on = On(root, cluster)
    for work in (on.drift, on.read):
        with pytest.raises(ResourceError) as refused:
            work(state)
        told.add(str(refused.value))
    (text,) = told
    return text


def test_the_identifier_is_the_uid_of_kube_system(tmp_path: Path) -> None:
    state = created(tmp_path, a_cluster())
    assert state["identifier"] == "uid-1"
    assert On(tmp_path, a_cluster()).preview(None) == outputs(state)
    # Before the namespace exists there is no copy of the CA in it.
    early = a_cluster()
    del early.paths[AUTHORITY]
    assert created(tmp_path, early)["facts"] == state["facts"]


def test_another_way_to_the_same_cluster_changes_nothing(tmp_path: Path) -> None:
    state = created(tmp_path, a_cluster())
    tunnel, renewed = a_cluster(), a_cluster(authority="CA 2")
    tunnel.address = "https://127.0.0.1:9999"
    for cluster in (tunnel, renewed, limited(a_cluster())):
        on = On(tmp_path, cluster)
        assert on.drift(state) == {}
        assert on.preview(state) == outputs(state)
    assert On(tmp_path, tunnel).read(state) == {"facts": state["facts"]}
    found = On(tmp_path, renewed).read(state) or {}
    assert found["facts"]["authority"] != state["facts"]["authority"]
    assert found["facts"]["server"] == "https://cluster:6443"


def test_another_cluster_is_refused_and_both_are_named(tmp_path: Path) -> None:
    state, other = created(tmp_path, a_cluster()), a_cluster("uid-2", "CA 2")
    other.address, other.where = "https://other:6443", Where(context="production")
    told = refusal(tmp_path, other, state)
    assert "is on the cluster https://cluster:6443 (UID of kube-system uid-1)" in told
    assert "(context production) leads to another cluster, https://other:6443 (UID of" in told
    assert "pulumi stack init" in told and "renewed" not in told


def test_a_role_within_the_namespace_is_enough(tmp_path: Path) -> None:
    state = created(tmp_path, limited(a_cluster()))
    assert state["identifier"].startswith("ca-") and state["facts"]["uid"] == ""
    # Somebody with more rights changes nothing of it.
    assert On(tmp_path, a_cluster()).drift(state) == {}
    assert On(tmp_path, a_cluster()).read(state) == {}
    told = refusal(tmp_path, limited(a_cluster("uid-2", "CA 2")), state)
    assert "(CA certificate " in told and "`pulumi refresh`" in told


def test_who_may_read_nothing_can_still_create(tmp_path: Path) -> None:
    closed = a_cluster()
    closed.forbidden = set(closed.paths)
    assert On(tmp_path, closed).preview(None) == {}
    first, second = created(tmp_path, closed), created(tmp_path, closed)
    assert first["identifier"] != second["identifier"]
    assert On(tmp_path, a_cluster()).drift(first) == {}


@pytest.mark.parametrize("error", [
    UnreachableError("no cluster answers"), RefusedError("the cluster does not know you", 401)
])  # fmt: skip
def test_a_preview_needs_no_cluster(tmp_path: Path, error: Exception) -> None:
    state, away = created(tmp_path, a_cluster()), a_cluster()
    away.fails = error
    on = On(tmp_path, away)
    assert on.preview(None) == {}
    assert on.drift(state) == {}
    with pytest.raises(ResourceError, match=str(error)):
        on.create()


@pytest.mark.parametrize(("was", "told"), [
    (False, "render_to cannot be set for a stack that is on a cluster"),
    (True, "render_to cannot be removed from a stack that renders"),
])  # fmt: skip
def test_a_stack_renders_or_is_on_a_cluster(tmp_path: Path, was: bool, told: str) -> None:
    on = On(tmp_path, a_cluster())
    new = ClusterIdentityInputs(namespace="team", rendered=not was)
    with pytest.raises(ResourceError, match=told):
        on.handler.refuse_change(on.ctx, {"rendered"}, {"rendered": was}, new)


def test_a_stack_that_renders_asks_no_cluster(tmp_path: Path) -> None:
    away = a_cluster()
    away.fails = UnreachableError("no cluster answers")
    on = On(tmp_path, away)
    rendered = ClusterIdentityInputs(namespace="team", rendered=True)
    known = on.handler.preview(on.ctx, rendered, None)
    assert on.handler.create(on.ctx, rendered) == (known["identifier"], known)
    state = {"namespace": "team", "rendered": True, **known}
    assert on.drift(state) == {} and on.read(state) == {}


def test_facts_that_were_not_recorded_differ_from_nothing() -> None:
    assert not ClusterFacts.recorded(None).differs(ClusterFacts("uid-1", "ca", "server"))
