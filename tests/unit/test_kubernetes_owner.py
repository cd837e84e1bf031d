"""`mlops:kubernetes:NamespaceOwner` on a cluster in memory: a namespace is one stack's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.plugin.errors import ResourceError, UnreachableError
from pulumi_mlops.plugin.handler import Context
from pulumi_mlops.plugin.values import UNKNOWN
from pulumi_mlops.targets.kubernetes.api.errors import RefusedError
from pulumi_mlops.targets.kubernetes.resources.namespace_owner import (
    NamespaceOwnerHandler,
    NamespaceOwnerInputs,
)

from .kubernetes_fixtures import FakeCluster
from .provider_fixtures import Log, make_context

WHERE = ("ConfigMap", "mlops-owner")
FORBIDDEN = RefusedError("the cluster forbids it: no", 403)


class Owner:
    """The handler as the plugin calls it for one stack."""

    def __init__(self, root: Path, cluster: FakeCluster, stack: str = "dev") -> None:
        self.cluster, self.log = cluster, Log()
        self.handler = NamespaceOwnerHandler(cluster)  # type: ignore[arg-type]
        self.ctx: Context = make_context(
            root, self.handler.token, stack=stack, parents="", log=self.log
        )

    def inputs(self, key: object = "mine", **more: Any) -> NamespaceOwnerInputs:
        return NamespaceOwnerInputs.model_validate({"namespace": "team", "key": key, **more})

    def create(self, key: object = "mine", **more: Any) -> None:
        made = self.handler.create(self.ctx, self.inputs(key, **more))
        assert made == ("team", {"status": "owned"})

    def preview(self, key: object = UNKNOWN, old: Any = None, **more: Any) -> None:
        known = self.handler.preview(self.ctx, self.inputs(key, **more), old)
        assert known == {"status": "owned"}

    def drift(self, key: str = "mine") -> Any:
        return self.handler.drift(self.ctx, "team", {"namespace": "team", "key": key})

    def read(self, key: str = "mine") -> Any:
        return self.handler.read(self.ctx, "team", {"namespace": "team", "key": key})

    def delete(self, key: str = "mine") -> None:
        self.handler.delete(self.ctx, "team", {"namespace": "team", "key": key})


@pytest.fixture
def cluster() -> FakeCluster:
    made = FakeCluster()
    made.put({"kind": "Namespace", "metadata": {"name": "team"}})
    return made


@pytest.fixture
def owner(tmp_path: Path, cluster: FakeCluster) -> Owner:
    return Owner(tmp_path, cluster)


def refused(work: Any, *args: Any, **more: Any) -> str:
    with pytest.raises(ResourceError) as refusal:
        work(*args, **more)
    return str(refusal.value)


def test_a_free_namespace_is_taken_and_given_back(owner: Owner, cluster: FakeCluster) -> None:
    owner.preview()
    owner.create()
    assert cluster.objects[WHERE]["data"] == {"key": "mine", "owner": "project/dev"}
    assert owner.drift() == {}
    assert owner.read() == {"status": "owned"}
    owner.delete()
    assert cluster.done == [("create", "mlops-owner"), ("delete", "mlops-owner")]
    owner.delete()


def test_an_update_that_was_killed_finds_its_own_key(owner: Owner) -> None:
    owner.create()
    owner.preview("mine")
    owner.create()


@pytest.mark.parametrize(("stack", "told"), [
    ("prod", "belongs to another stack, project/dev: two stacks in one namespace"),
    ("dev", "belongs to another stack of the same name, project/dev, whose state is not this one"),
])  # fmt: skip
def test_another_stack_is_refused_and_changes_nothing(
    owner: Owner, cluster: FakeCluster, tmp_path: Path, stack: str, told: str
) -> None:
    owner.create()
    other = Owner(tmp_path, cluster, stack)
    before = dict(cluster.objects)
    for text in (
        refused(other.preview), refused(other.preview, "theirs"), refused(other.create, "theirs"),
    ):  # fmt: skip
        assert told in text
        assert "choose another namespace (mlops:kubernetes.namespace)" in text
        assert "kubectl --namespace team delete configmap mlops-owner" in text
        assert "mine" not in text
    assert other.read("theirs") is None
    other.delete("theirs")
    assert cluster.objects == before


def test_of_two_at_once_one_is_refused(
    owner: Owner, cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have looked before either has made it."""
    other = Owner(tmp_path, cluster, "prod")
    get, raced = cluster.get, []

    def slow(kind: str, name: str) -> Any:
        found = get(kind, name)
        if kind == "ConfigMap" and not raced:
            raced.append(True)
            other.create("theirs")
        return found

    monkeypatch.setattr(cluster, "get", slow)
    assert "belongs to another stack, project/prod" in refused(owner.create)


def test_one_that_is_gone_is_made_anew_and_one_that_was_taken_is_not(
    owner: Owner, cluster: FakeCluster, tmp_path: Path
) -> None:
    old = {"namespace": "team", "key": "mine", "status": "owned"}
    owner.create()
    del cluster.objects[WHERE]
    assert owner.drift() == {"status": "gone"}
    assert owner.read() is None
    owner.preview("mine", old)
    assert owner.handler.update(owner.ctx, "team", old, owner.inputs()) == {"status": "owned"}
    assert cluster.objects[WHERE]["data"]["key"] == "mine"

    del cluster.objects[WHERE]
    Owner(tmp_path, cluster, "prod").create("theirs")
    assert owner.drift() == {"status": "of another stack"}
    for work in (lambda: owner.preview("mine", old),
                 lambda: owner.handler.update(owner.ctx, "team", old, owner.inputs())):  # fmt: skip
        assert "belongs to another stack, project/prod" in refused(work)


def test_another_key_of_the_same_stack_takes_the_place_of_the_first(
    owner: Owner, cluster: FakeCluster
) -> None:
    owner.create()
    old = {"namespace": "team", "key": "mine"}
    owner.preview("new", old)
    owner.handler.update(owner.ctx, "team", old, owner.inputs("new"))
    ((manifest, _),) = cluster.applied
    assert manifest["data"]["key"] == "new"


def test_a_preview_without_a_cluster_says_so_and_goes_on(
    owner: Owner, cluster: FakeCluster
) -> None:
    cluster.fails = UnreachableError("no cluster answers")
    owner.preview()
    assert owner.drift() == {}
    assert owner.read() == {}
    assert owner.log.of("warning") == [
        "previewed without the cluster: no cluster answers",
        "previewed without the cluster: no cluster answers",
        "the recorded state is kept: no cluster answers",
    ]
    assert refused(owner.create) == "no cluster answers"


def test_who_may_not_look_may_preview_and_is_told(owner: Owner, cluster: FakeCluster) -> None:
    cluster.forbidden = {"ConfigMap"}
    owner.preview()
    assert "could not be read: the cluster forbids it" in owner.log.of("warning")[0]
    assert owner.drift() == {}
    assert refused(owner.create).startswith("the cluster forbids it")


# The namespace itself


def test_a_namespace_is_made_where_it_may_be(owner: Owner, cluster: FakeCluster) -> None:
    del cluster.objects["Namespace", "team"]
    owner.preview()
    told = "there is no namespace team: create it, or set mlops:kubernetes.create_namespace"
    assert told in refused(owner.preview, createNamespace=False)
    assert told in refused(owner.create, createNamespace=False)
    cluster.refused["Namespace", "team"] = FORBIDDEN
    told = refused(owner.create)
    assert "you have no permission to create it: ask an administrator to create it with the" in told
    del cluster.refused["Namespace", "team"]
    owner.create()
    assert ("Namespace", "team") in cluster.objects


def test_a_role_within_the_namespace_is_enough(owner: Owner, cluster: FakeCluster) -> None:
    cluster.forbidden = {"Namespace"}
    owner.preview()
    owner.create()
    owner.delete()
    cluster.refused[WHERE] = RefusedError('namespaces "team" not found', 404)
    assert "there is no namespace team" in refused(owner.create)


def test_a_namespace_that_is_being_deleted_is_told_with_what_holds_it(
    owner: Owner, cluster: FakeCluster
) -> None:
    conditions = [
        {"type": "NamespaceFinalizersRemaining", "status": "True", "message": "x.test/hold in 1"},
        {"type": "NamespaceContentRemaining", "status": "False", "message": "all is gone"},
    ]
    status = {"phase": "Terminating", "conditions": conditions}
    cluster.put({"kind": "Namespace", "metadata": {"name": "team"}, "status": status})
    for text in (refused(owner.preview), refused(owner.create)):
        assert text.startswith("namespace team is being deleted; x.test/hold in 1. Wait until it")
        assert "all is gone" not in text
        assert "choose another namespace (mlops:kubernetes.namespace)" in text
    cluster.forbidden = {"Namespace"}
    ending = 'configmaps "mlops-owner" is forbidden: unable to create: it is being terminated'
    cluster.refused[WHERE] = RefusedError(ending, 403)
    assert refused(owner.create).startswith("namespace team is being deleted. Wait")


def test_a_namespace_that_somebody_deleted_is_not_made_half(
    owner: Owner, cluster: FakeCluster
) -> None:
    """What else was in it is in the state still."""
    old = {"namespace": "team", "key": "mine", "status": "owned"}
    owner.create()
    cluster.objects.clear()
    for work in (lambda: owner.preview("mine", old),
                 lambda: owner.handler.update(owner.ctx, "team", old, owner.inputs())):  # fmt: skip
        assert "namespace team is gone, with all that was in it" in refused(work)
        assert "`pulumi refresh`" in refused(work)
    assert owner.read() is None


def test_it_is_not_imported(owner: Owner) -> None:
    assert "cannot be imported" in refused(owner.handler.read, owner.ctx, "team", {})


# What may not pass a preview

OLD = {"namespace": "team", "key": "mine", "createNamespace": True, "deleteNamespace": True,
       "provider": "id-1"}  # fmt: skip


@pytest.mark.parametrize(("changed", "more", "told"), [
    ("provider", {"provider": UNKNOWN}, "would replace the Kubernetes provider, and so delete"),
    ("provider", {"provider": "id-2"}, "would replace the Kubernetes provider, and so delete"),
    ("namespace", {"namespace": "other"}, "namespace cannot change from team to other"),
    ("", {"createNamespace": False}, "create_namespace cannot become false while"),
])  # fmt: skip
def test_a_plan_that_would_delete_everything_is_refused(
    owner: Owner, changed: str, more: dict[str, Any], told: str
) -> None:
    new = owner.inputs(**{"deleteNamespace": True, "provider": "id-1", **more})
    assert told in refused(owner.handler.refuse_change, owner.ctx, {changed}, OLD, new)


@pytest.mark.parametrize(("changed", "old", "more"), [
    # A stack of an older version, whose state names no provider.
    ("provider", {"provider": None}, {"provider": "id-1"}),
    ("provider", {"provider": None}, {"provider": UNKNOWN}),
    ("", {"deleteNamespace": False}, {"createNamespace": False}),
    ("deleteNamespace", {}, {"deleteNamespace": False}),
    ("key", {}, {}),
])  # fmt: skip
def test_other_changes_pass(
    owner: Owner, changed: str, old: dict[str, Any], more: dict[str, Any]
) -> None:
    owner.handler.refuse_change(owner.ctx, {changed}, {**OLD, **old}, owner.inputs(**more))
