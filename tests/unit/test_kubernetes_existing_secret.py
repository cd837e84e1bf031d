"""`mlops:kubernetes:ExistingSecret` on a cluster in memory: it reads, and says what it misses."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.plugin.errors import ResourceError, UnreachableError
from pulumi_mlops.plugin.handler import Context
from pulumi_mlops.targets.kubernetes.api.clusters import Clusters
from pulumi_mlops.targets.kubernetes.api.errors import RefusedError
from pulumi_mlops.targets.kubernetes.resources.existing_secret import (
    ExistingSecretHandler,
    ExistingSecretInputs,
)

from .kubernetes_fixtures import FakeCluster
from .provider_fixtures import Log, make_context

HANDLER = ExistingSecretHandler(Clusters())
WHERE = {"namespace": "team", "name": "db", "key": "url"}
INPUTS = ExistingSecretInputs.model_validate(WHERE)
STATE = {**WHERE, "value": "hush"}


@pytest.fixture
def cluster() -> FakeCluster:
    made = FakeCluster()
    keep(made, url=b"hush")
    return made


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def ctx(tmp_path: Path, cluster: FakeCluster, log: Log, monkeypatch: pytest.MonkeyPatch) -> Context:
    made = make_context(tmp_path, HANDLER.token, parents="", log=log)
    monkeypatch.setattr(HANDLER, "_clusters", cluster)
    return made


def keep(cluster: FakeCluster, **values: bytes) -> None:
    data = {key: base64.b64encode(value).decode() for key, value in values.items()}
    cluster.put({"kind": "Secret", "metadata": {"name": "db"}, "data": data})


def refused(work: Any, *args: Any) -> str:
    with pytest.raises(ResourceError) as refusal:
        work(*args)
    assert "hush" not in str(refusal.value)
    return str(refusal.value)


def test_it_reads_and_changes_nothing(ctx: Context, cluster: FakeCluster) -> None:
    assert HANDLER.preview(ctx, INPUTS, None) == {"value": "hush"}
    assert HANDLER.create(ctx, INPUTS) == ("team/db/url", {"value": "hush"})
    assert HANDLER.drift(ctx, "team/db/url", STATE) == {}
    assert HANDLER.read(ctx, "team/db/url", STATE) == {"value": "hush"}
    HANDLER.delete(ctx, "team/db/url", STATE)
    assert cluster.done == []


def test_another_value_is_an_update(ctx: Context, cluster: FakeCluster) -> None:
    keep(cluster, url=b"another")
    assert HANDLER.drift(ctx, "team/db/url", STATE) == {"value": "changed"}
    assert HANDLER.preview(ctx, INPUTS, STATE) == {"value": "another"}
    assert HANDLER.update(ctx, "team/db/url", STATE, INPUTS) == {"value": "another"}


def test_what_is_missing_is_named(ctx: Context, cluster: FakeCluster) -> None:
    keep(cluster, b=b"1", a=b"hush")
    for work in (lambda: HANDLER.preview(ctx, INPUTS, None), lambda: HANDLER.create(ctx, INPUTS)):
        assert refused(work) == (
            "Secret db in namespace team has no key url: correct secret_key_ref.key. Its keys: a, b"
        )
    keep(cluster)
    assert "Its keys: none" in refused(HANDLER.create, ctx, INPUTS)
    keep(cluster, url=b"\xff")
    assert refused(HANDLER.create, ctx, INPUTS).endswith("the value of url must be UTF-8 text")
    cluster.objects.clear()
    assert refused(HANDLER.preview, ctx, INPUTS, STATE) == (
        "there is no Secret db in namespace team: create it, or correct secret_key_ref.name"
    )
    assert HANDLER.drift(ctx, "team/db/url", STATE) == {"value": "gone"}
    assert HANDLER.read(ctx, "team/db/url", STATE) is None


@pytest.mark.parametrize(
    "error", [UnreachableError("no cluster answers"), RefusedError("the cluster forbids it", 403)]
)
def test_a_reviewer_needs_no_cluster(
    ctx: Context, cluster: FakeCluster, log: Log, error: ResourceError
) -> None:
    cluster.fails = error
    assert HANDLER.preview(ctx, INPUTS, None) == {}
    assert HANDLER.drift(ctx, "team/db/url", STATE) == {}
    assert f"previewed without the cluster: {error}" in str(vars(log))
    assert HANDLER.read(ctx, "team/db/url", STATE) == {}
    assert refused(HANDLER.create, ctx, INPUTS) == str(error)


def test_there_is_nothing_to_import(ctx: Context) -> None:
    assert "an update reads the Secret" in refused(HANDLER.read, ctx, "team/db/url", {})
