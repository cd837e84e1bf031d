"""A namespace is one stack's: tried with two on a real cluster."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mlops_project import MlopsProject

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]
Light = Callable[..., MlopsProject]


def test_a_second_stack_is_refused_and_changes_nothing(light: Light) -> None:
    first = light("serve('tool')")
    first.up()
    before = first.objects()
    assert {"ConfigMap/mlops-owner", "Deployment/tool"} <= set(before)

    # The same names, another backend, and it would delete the namespace in the end.
    second = light("serve('tool', replicas=2)", namespace=first.namespace)
    for told in (second.preview(fails=True), second.up(fails=True)):
        assert f"namespace {first.namespace} belongs to another stack of the same name" in told
        assert "standin/dev" in told
        assert "choose another namespace (mlops:kubernetes.namespace)" in told
        assert f"kubectl --namespace {first.namespace} delete configmap mlops-owner" in told
    second.run("destroy", "--yes", "--skip-preview")
    assert first.objects() == before
    first.preview("--expect-no-changes")

    # In a namespace of its own it is welcome.
    second.settings["namespace"] += "-two"
    second.up()
    first.preview("--expect-no-changes")


def test_a_namespace_that_was_freed_is_the_next_ones(light: Light) -> None:
    first = light("here.volume('tool-data', False, opts)", delete_namespace=False)
    first.up()
    first.kubectl("delete", "configmap", "mlops-owner")
    # Nobody has taken it: it is put right, as what else is changed by hand.
    first.up()
    assert "ConfigMap/mlops-owner" in first.objects()

    first.kubectl("delete", "configmap", "mlops-owner")
    second = light("", namespace=first.namespace)
    second.up()
    assert "belongs to another stack" in first.up(fails=True)
    # It can still go: what is not its own stays.
    first.run("destroy", "--yes", "--skip-preview")
    second.preview("--expect-no-changes")


def test_destroying_gives_the_namespace_back(light: Light) -> None:
    first = light("", delete_namespace=False)
    first.up()
    first.run("destroy", "--yes", "--skip-preview")
    assert set(first.objects()) == {"ConfigMap/kube-root-ca.crt"}
    light("", namespace=first.namespace).up()


def test_a_preview_needs_no_cluster(light: Light) -> None:
    """Nobody answers at that address, and nothing is sent back either."""
    away = light("serve('tool')", kubeconfig="away.yaml")
    (away.folder / "away.yaml").write_text(AWAY)
    away.preview()


AWAY = """
apiVersion: v1
kind: Config
current-context: away
clusters: [{name: away, cluster: {server: "https://192.0.2.1:6443"}}]
users: [{name: away, user: {token: none}}]
contexts: [{name: away, context: {cluster: away, user: away}}]
"""
