"""What the stand-in of the pulumi-kubernetes plugin compares and replaces, without a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "kubernetes" / "provider"))
from standin.diff import changes, ignored, merge_patch, spelled
from standin.drift import live_inputs
from standin.managers import takeover
from standin.objects import without_servers_fields
from standin.replaces import fixed_fields
from standin.wire import UNKNOWN


def changed(old: Any, new: Any) -> dict[str, str]:
    return {each.spelled: each.kind for each in changes(old, new)}


def replaced(old: dict[str, Any], new: dict[str, Any], **options: bool) -> list[str]:
    fixed = fixed_fields(new, **options)
    return [each.spelled for each in changes(old, new) if each.replaces(fixed)]


# -- diff


def test_differences_are_told_by_path() -> None:
    old = {"a": [1, {"b": 1}], "c": {"x.y": "1", "z": "1"}, "same": 1}
    new = {"a": [1, {"b": 2}, 3], "c": {"z": UNKNOWN}, "same": 1}
    assert changed(old, new) == {
        "a[1].b": "update",
        "a[2]": "add",
        'c["x.y"]': "delete",
        "c.z": "update",
    }
    assert changed({"a": 1}, {"a": True}) == {"a": "update"}
    assert spelled(("a", 0, 'q"."')) == 'a[0]["q\\".\\""]'


def test_changes_can_be_ignored() -> None:
    assert ignored("spec.replicas", ["spec"]) and ignored("a[0].b", ["a"])
    assert not ignored("specs", ["spec"])


def test_a_merge_patch_says_what_goes() -> None:
    assert merge_patch({"a": 1, "b": {"c": 1, "d": 1}}, {"b": {"c": 2, "d": 1}}) == {
        "a": None,
        "b": {"c": 2},
    }


def spec(kind: str, api_version: str = "v1", **fields: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": fields}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (spec("Deployment", "apps/v1", replicas=1), spec("Deployment", "apps/v1", replicas=2), []),
        (
            spec("Deployment", "apps/v1", selector={"matchLabels": {"a": "1"}}),
            spec("Deployment", "apps/v1", selector={"matchLabels": {"a": "2"}}),
            ["spec.selector.matchLabels.a"],
        ),
        (
            spec("Job", "batch/v1", template={"spec": {"containers": [{"image": "a"}]}}),
            spec("Job", "batch/v1", template={"spec": {"containers": [{"image": "b"}]}}),
            ["spec.template.spec.containers[0].image"],
        ),
        (spec("Job", "batch/v1", suspend=True), spec("Job", "batch/v1", suspend=False), []),
        (
            spec("PersistentVolumeClaim", resources={"requests": {"storage": "1Gi"}}),
            spec("PersistentVolumeClaim", resources={"requests": {"storage": "2Gi"}}),
            [],
        ),
        (
            spec("PersistentVolumeClaim", storageClassName="a"),
            spec("PersistentVolumeClaim", storageClassName="b"),
            ["spec.storageClassName"],
        ),
        (spec("Service", type="ClusterIP"), spec("Service", type="NodePort"), []),
        (spec("Service", type="ClusterIP"), spec("Service", clusterIP="None"), ["spec.clusterIP"]),
        (
            spec("StatefulSet", "apps/v1", serviceName="a"),
            spec("StatefulSet", "apps/v1", serviceName="b"),
            ["spec.serviceName"],
        ),
        (
            spec("Pod", containers=[{"image": "a"}]),
            spec("Pod", containers=[{"image": "b"}]),
            ["spec.containers[0].image"],
        ),
        ({"kind": "Job", "apiVersion": "batch/v1"}, spec("Job", "batch/v1", template={}), ["spec"]),
    ],
)
def test_fields_that_cannot_change_replace(
    old: dict[str, Any], new: dict[str, Any], expected: list[str]
) -> None:
    assert [path for path in replaced(old, new) if path != "metadata"] == expected


def test_name_and_namespace_replace_any_kind() -> None:
    old = {"kind": "Widget", "metadata": {"name": "a", "namespace": "n", "labels": {}}}
    new = {"kind": "Widget", "metadata": {"name": "b", "namespace": "m", "labels": {"x": "y"}}}
    assert replaced(old, new) == ["metadata.name", "metadata.namespace"]


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_data_replace_unless_they_may_change(kind: str) -> None:
    base = {"apiVersion": "v1", "kind": kind}
    old, new = {**base, "data": {"a": "1"}}, {**base, "data": {"a": "2"}}
    mutable = {"secrets_change": True, "config_maps_change": True}
    assert replaced(old, new) == ["data.a"]
    assert replaced(old, new, **mutable) == []
    assert replaced({**old, "immutable": True}, {**new, "immutable": True}, **mutable)


# -- refresh


def test_refresh_sees_changes_of_ours_only() -> None:
    inputs = {
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {}},
        "spec": {
            "replicas": 1,
            "containers": [
                {"name": "a", "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}}},
                {"name": "b", "args": ["x"]},
            ],
        },
    }
    live = {
        "kind": "Deployment",
        "metadata": {"name": "web", "uid": "1"},
        "spec": {
            "replicas": 3,
            "strategy": {},
            "containers": [
                {"name": "injected"},
                {"name": "b", "args": ["y", "z"], "tty": False},
                {"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
            ],
        },
        "status": {},
    }
    assert changed(inputs, live_inputs(live, inputs)) == {
        "spec.replicas": "update",
        "spec.containers[1].args[0]": "update",
        "spec.containers[1].args[1]": "add",
    }


def test_texts_of_a_secret_are_compared_with_its_data() -> None:
    inputs = {"kind": "Secret", "stringData": {"a": "one", "b": "two"}}
    live = {"kind": "Secret", "data": {"a": "b25l", "b": "b3RoZXI="}}
    assert changed(inputs, live_inputs(live, inputs)) == {"stringData.b": "update"}


def test_an_import_takes_what_somebody_could_have_written() -> None:
    live = {
        "kind": "Widget",
        "metadata": {
            "name": "w",
            "uid": "1",
            "managedFields": [],
            "annotations": {"deployment.kubernetes.io/revision": "1"},
        },
        "spec": {"a": 1},
        "status": {"b": 2},
    }
    kept = without_servers_fields(live)
    assert kept == {"kind": "Widget", "metadata": {"name": "w"}, "spec": {"a": 1}}


# -- who owns fields


def test_what_a_create_and_kubectl_wrote_becomes_ours() -> None:
    def entry(manager: str, operation: str, **fields: Any) -> dict[str, Any]:
        return {"manager": manager, "operation": operation, "fieldsV1": fields}

    live = {
        "metadata": {
            "resourceVersion": "7",
            "managedFields": [
                entry("pulumi-kubernetes-1", "Update", a={"x": {}}),
                entry("kubectl-edit", "Update", a={"y": {}}),
                entry("robot", "Update", b={}),
                {**entry("kubectl", "Update"), "subresource": "scale"},
            ],
        }
    }
    owners, version = takeover(live, "pulumi-kubernetes-1")
    ours, *others = owners["value"]
    assert (ours["manager"], ours["operation"]) == ("pulumi-kubernetes-1", "Apply")
    assert ours["fieldsV1"] == {"a": {"x": {}, "y": {}}}
    assert [each["manager"] for each in others] == ["robot", "kubectl"]
    assert version["value"] == "7"
    live["metadata"]["managedFields"] = [ours, *others]
    assert takeover(live, "pulumi-kubernetes-1") == []
