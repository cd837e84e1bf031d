"""The stand-in of the pulumi-kubernetes plugin (tests/kubernetes/provider), without a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "kubernetes" / "provider"))
from standin.checking import Refused, checked
from standin.kubeconfig import KubeconfigError, load
from standin.readiness import READINESS
from standin.rendering import render, rendered_path
from standin.settings import Settings
from standin.wire import UNKNOWN, Secret, decode, encode, has_unknown, plain, with_secrets_of

DEPLOYMENT = "urn:pulumi:dev::project::my:index:Part$kubernetes:apps/v1:Deployment::web"
NAMESPACE = "urn:pulumi:dev::project::kubernetes:core/v1:Namespace::ns"
WIDGET = "urn:pulumi:dev::project::kubernetes:example.org/v1:Widget::one"


def check(urn: str, news: dict[str, Any], olds: dict[str, Any] | None = None, **more: Any) -> Any:
    options: dict[str, Any] = {
        "seed": b"seed",
        "proposed": None,
        "default_namespace": lambda: "shop",
        "asks_namespaced": lambda api_version, kind: True,
    }
    return checked(urn, news, olds or {}, **{**options, **more})


# -- values on the wire


def test_values_come_back_as_they_were_sent() -> None:
    value = {
        "word": Secret("x"),
        "later": UNKNOWN,
        "count": 3,
        "share": 0.5,
        "list": [True, {"a": "b"}],
        "x-kubernetes-list-type": "map",
    }
    assert decode(encode(value)) == value
    assert isinstance(decode(encode(value))["count"], int)
    assert "x_kubernetes_list_type" in encode(value).fields
    assert has_unknown(value) and not has_unknown(plain({**value, "later": 1}))
    assert plain(value)["word"] == "x"


def test_nulls_are_left_out() -> None:
    assert decode(encode({"a": None, "b": {"c": None}})) == {"b": {}}


def test_secrets_of_the_inputs_are_secrets_of_the_outputs() -> None:
    live = {"kind": "Pod", "spec": {"args": ["a", "b"], "host": "h"}, "status": {}}
    marked = with_secrets_of(live, {"spec": {"args": ["a", Secret("b")], "host": "h"}})
    assert marked["spec"] == {"args": Secret(["a", "b"]), "host": "h"}


def test_data_of_a_secret_are_always_secret() -> None:
    assert with_secrets_of({"kind": "Secret", "data": {"a": "b"}}, {})["data"] == Secret({"a": "b"})


# -- check


def test_check_fills_in_what_is_missing() -> None:
    found = check(DEPLOYMENT, {"spec": {}})
    assert (found["apiVersion"], found["kind"]) == ("apps/v1", "Deployment")
    meta = found["metadata"]
    assert meta["name"].startswith("web-") and len(meta["name"]) == len("web-1234567")
    assert meta["annotations"] == {"pulumi.com/autonamed": "true"}
    assert meta["namespace"] == "shop"
    assert check(DEPLOYMENT, {}) == check(DEPLOYMENT, {})
    assert check(DEPLOYMENT, {}) != check(DEPLOYMENT, {}, seed=b"other")


def test_check_keeps_an_automatic_name_and_what_is_given() -> None:
    first = check(DEPLOYMENT, {})
    again = check(DEPLOYMENT, {"metadata": {"labels": {"a": "b"}}}, first, seed=b"other")
    assert again["metadata"]["name"] == first["metadata"]["name"]
    given = {"metadata": {"name": "mine", "namespace": UNKNOWN}}
    assert check(DEPLOYMENT, given, first)["metadata"] == given["metadata"]
    assert check(DEPLOYMENT, {"metadata": UNKNOWN})["metadata"] is UNKNOWN
    assert check(DEPLOYMENT, {}, proposed="web-proposed")["metadata"]["name"] == "web-proposed"


def test_only_namespaced_kinds_get_a_namespace() -> None:
    assert check(NAMESPACE, {})["apiVersion"] == "v1"
    assert "namespace" not in check(NAMESPACE, {})["metadata"]
    assert "namespace" in check(WIDGET, {})["metadata"]
    assert "namespace" not in check(WIDGET, {}, asks_namespaced=lambda *_: False)["metadata"]


def test_what_the_stand_in_does_not_know_is_refused() -> None:
    with pytest.raises(Refused, match="DeploymentPatch"):
        check(DEPLOYMENT.replace("Deployment", "DeploymentPatch"), {})
    with pytest.raises(Refused, match="generateName"):
        check(DEPLOYMENT, {"metadata": {"generateName": "web-"}})


# -- readiness


@pytest.mark.parametrize(
    ("kind", "live", "says"),
    [
        ("Deployment", {"status": {"observedGeneration": 1}}, "see the change"),
        ("Deployment", {"status": {"observedGeneration": 2}}, "0 of 2 replicas updated"),
        (
            "Deployment",
            {"status": {"observedGeneration": 2, "updatedReplicas": 2, "replicas": 3}},
            "1 old replicas to end",
        ),
        (
            "Deployment",
            {
                "status": {
                    "observedGeneration": 2,
                    "updatedReplicas": 2,
                    "replicas": 2,
                    "conditions": [
                        {"type": "Progressing", "status": "False", "reason": "Deadline"}
                    ],
                }
            },
            "0 of 2 replicas available (Deadline)",
        ),
        (
            "Deployment",
            {
                "status": {
                    "observedGeneration": 2,
                    "updatedReplicas": 2,
                    "replicas": 2,
                    "availableReplicas": 2,
                }
            },
            None,
        ),
        ("StatefulSet", {"status": {"observedGeneration": 2}}, "0 of 2 replicas ready"),
        (
            "StatefulSet",
            {
                "status": {
                    "observedGeneration": 2,
                    "readyReplicas": 2,
                    "updatedReplicas": 2,
                    "currentRevision": "a",
                    "updateRevision": "b",
                }
            },
            "newest revision",
        ),
        ("Job", {"status": {}}, "0 of 1 pods succeeded"),
        ("Job", {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}, None),
        (
            "Job",
            {"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "Back"}]}},
            "failed: Back",
        ),
        ("PersistentVolumeClaim", {"status": {"phase": "Pending"}}, "Pending"),
        ("PersistentVolumeClaim", {"status": {"phase": "Bound"}}, None),
        ("Namespace", {"status": {"phase": "Active"}}, None),
        (
            "Pod",
            {
                "status": {
                    "phase": "Pending",
                    "containerStatuses": [
                        {"name": "c", "state": {"waiting": {"reason": "ErrImagePull"}}}
                    ],
                }
            },
            "container c: ErrImagePull",
        ),
        ("Pod", {"status": {"phase": "Succeeded"}}, None),
        ("Pod", {"status": {"phase": "Failed", "reason": "Evicted"}}, "failed: Evicted"),
    ],
)
def test_status_is_read(kind: str, live: dict[str, Any], says: str | None) -> None:
    judge = next(judge for (_, known), judge in READINESS.items() if known == kind)
    spec = {} if kind == "Job" else {"replicas": 2}
    found = judge({"kind": kind, "metadata": {"generation": 2}, "spec": spec, **live})
    assert found.ready is (says is None)
    assert says is None or says in found.says
    assert found.failed is (says is not None and says.startswith("failed"))


# -- files


def test_objects_are_files(tmp_path: Path) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"}}
    path = render(tmp_path, service)
    assert path == tmp_path / "1-manifest" / "v1-service-n-s.yaml"
    assert path.read_text().startswith("apiVersion: v1\n")
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    named = {**crd, "metadata": {"name": "w"}}
    name = "apiextensions.k8s.io_v1-customresourcedefinition-default-w.yaml"
    assert rendered_path(tmp_path, named) == tmp_path / "0-crd" / name


# -- where the cluster is

KUBECONFIG = """
current-context: one
contexts:
- {name: one, context: {cluster: c1, user: u, namespace: shop}}
- {name: two, context: {cluster: c2, user: u}}
clusters:
- {name: c1, cluster: {server: "https://one/"}}
- {name: c2, cluster: {server: "https://two", insecure-skip-tls-verify: true}}
users:
- {name: u, user: {token: t}}
- {name: e, user: {exec: {command: aws}}}
"""


def test_kubeconfig_is_text_or_a_path_or_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config"
    file.write_text(KUBECONFIG)
    one = load(KUBECONFIG)
    assert (one.server, one.namespace, one.token) == ("https://one", "shop", "t")
    assert load(str(file)) == one
    monkeypatch.setenv("KUBECONFIG", f"/no/such/file:{file}")
    assert load(None, context="two").server == "https://two"
    assert load(None, cluster="c2").insecure
    monkeypatch.setenv("KUBECONFIG", "/no/such/file")
    with pytest.raises(KubeconfigError, match="/no/such/file"):
        load(None)
    with pytest.raises(KubeconfigError, match="no context 'three'"):
        load(KUBECONFIG, context="three")
    with pytest.raises(KubeconfigError, match="credential plugins"):
        load(KUBECONFIG.replace("user: u,", "user: e,"))


def test_settings_come_as_texts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.of({}).server_side_apply
    assert not Settings.of({"enableServerSideApply": "false"}).server_side_apply
    monkeypatch.setenv("PULUMI_K8S_ENABLE_PATCH_FORCE", "true")
    assert Settings.of({}).patch_force and not Settings.of({"enablePatchForce": False}).patch_force
