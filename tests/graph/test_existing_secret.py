"""What a Secret of the cluster has, in the place of a value, on Pulumi's mocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pytest

import pulumi_mlops as mlops


def ref(name: str, key: str) -> dict[str, Any]:
    return {"secret_key_ref": {"name": name, "key": key}}


def config(**kubernetes: Any) -> dict[str, str]:
    told = {"registry": "registry.example.com", **kubernetes}
    return {"mlops:target": "kubernetes", "mlops:kubernetes": json.dumps(told)}


def platform() -> None:
    mlops.MlopsPlatform(
        "platform",
        {
            "artifacts": {
                "endpoint_url": "https://s3.example.com",
                "access_key_id": ref("store", "id"),
                "secret_access_key": ref("store", "secret"),
            },
            "tracking": {"database_url": ref("db", "url")},
            "training": {"env": {"TOKEN": ref("db", "url"), "PLAIN": "1"}},
            "pipelines": {"train": {"source": "train"}},
            "monitoring": {"enabled": False},
        },
    )


def test_pods_get_what_it_says_and_nobody_else_sees_it(provision: Any, project: Path) -> None:
    graph = provision(platform, config())
    read = graph.of("mlops:kubernetes:ExistingSecret")
    # Two of them take the same one, which is read once.
    assert set(read) == {"store/id", "store/secret", "db/url"}
    assert read["db/url"].inputs == {"namespace": "mlops", "name": "db", "key": "url"}
    assert graph["namespace-owner"].urn in read["db/url"].depends_on
    for name, variables in {
        "platform-tracking-server-secrets": {
            "MLFLOW_BACKEND_STORE_URI", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
        },
        "platform-train-pipeline-job-secrets": {
            "TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
        },
    }.items():  # fmt: skip
        assert set(graph[name].inputs["stringData"].value) == variables
    for each in graph.all.values():
        text = json.dumps(each.inputs, default=lambda value: "hidden" if value else "")
        assert "hush" not in text, each.urn


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "Secret store: secret_key_ref is not supported by this target: set the value"),
        (config(render_to="manifests"),
         "Secret store: secret_key_ref reads existing Secrets of the cluster, but with m"),
    ],
    ids=["local", "rendered"],
)  # fmt: skip
def test_where_there_is_no_cluster_it_is_refused(
    given: Any, told: str, provision: Any, project: Path
) -> None:
    with pytest.raises(pulumi.RunError, match=told):
        provision(platform, given)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"secret_key_ref": {"name": "db"}}, "database_url.secret_key_ref.key: is required"),
        ({"secret_key_ref": {"name": "A B", "key": "url"}},
         "database_url.secret_key_ref.name: must be a name that Kubernetes allows"),
        ({"secret_key_ref": {"name": "db", "key": "a/b"}},
         "database_url.secret_key_ref.key: must be letters, digits"),
        ({"secret": "db"},
         "database_url.secret: there is no such input: did you mean `secret_key_ref`?"),
        (5, "database_url: must be text: put numbers and dates in quotes"),
    ],
)  # fmt: skip
def test_what_is_no_reference(value: Any, told: str, provision: Any, project: Path) -> None:
    def program() -> None:
        mlops.MlopsPlatform("platform", {"tracking": {"database_url": value}})

    with pytest.raises(pulumi.RunError) as refusal:
        provision(program, config())
    assert f"platform.tracking.{told}" in str(refusal.value)
