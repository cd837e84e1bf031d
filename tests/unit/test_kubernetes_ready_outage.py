"""A wait while the cluster's API is away: a short outage is survived, a long one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.plugin.errors import ResourceError, UnreachableError
from pulumi_mlops.targets.kubernetes.api.errors import RefusedError

from .kubernetes_fixtures import Ready, begin, job, pod, replica_set, rolled_out, workload

AWAY = UnreachableError("no cluster answers (refused): look at the kubeconfig")
BUSY = RefusedError("the cluster refused: too many requests", 429)
BROKEN = RefusedError("the cluster refused: etcd is away", 503)


def waiting(root: Path, monkeypatch: pytest.MonkeyPatch, *steps: Any) -> Ready:
    it = begin(root, monkeypatch, *steps)
    it.cluster.put(workload(), replica_set(), pod())
    return it


def fail(it: Ready, error: Exception | None) -> None:
    it.cluster.fails = error


@pytest.mark.parametrize("error", [AWAY, BUSY, BROKEN])
def test_a_short_outage_is_survived(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def back() -> None:
        fail(it, None)
        it.cluster.put(rolled_out())

    # A hundred seconds, of which the workload's own ten know nothing.
    it: Ready = waiting(tmp_path, monkeypatch, lambda: fail(it, error), *[None] * 200, back)
    assert it.create(timeoutSeconds=10) == {"outputs": {}, "status": "ready"}
    assert f"waiting until the cluster answers again: {error}" in it.log.of("status")


def test_what_it_may_take_goes_on_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it: Ready = waiting(
        tmp_path, monkeypatch, lambda: fail(it, AWAY), *[None] * 100, lambda: fail(it, None)
    )
    with pytest.raises(ResourceError, match="Deployment tool is not ready after 10 s"):
        it.create(timeoutSeconds=10)


def test_a_long_outage_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it: Ready = waiting(tmp_path, monkeypatch, lambda: fail(it, AWAY))
    with pytest.raises(ResourceError) as refusal:
        it.create(timeoutSeconds=10)
    first, last = str(refusal.value).splitlines()
    assert first == (
        "it is unknown whether Deployment tool is ready: the cluster has not answered for 120 s. "
        "Its workloads keep running. Update again once it answers"
    )
    assert last == str(AWAY)


def test_a_job_outlasts_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def back() -> None:
        fail(it, None)
        it.cluster.put(job("Complete"))

    it: Ready = begin(tmp_path, monkeypatch, lambda: fail(it, AWAY), None, back)
    it.cluster.put(job())
    assert it.create("Job") == {"outputs": {}, "status": "ready"}


@pytest.mark.parametrize("begun", [True, False], ids=["in the middle", "from the beginning"])
def test_what_is_no_outage_is_told_at_once(
    begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RefusedError("the cluster forbids it: no", 403) if begun else AWAY
    it: Ready = waiting(tmp_path, monkeypatch, lambda: fail(it, error))
    if not begun:
        fail(it, error)
    with pytest.raises(ResourceError, match=r"^(the cluster forbids it: no|no cluster answers)"):
        it.create()
    assert len(it.log.lines) == int(begun)
