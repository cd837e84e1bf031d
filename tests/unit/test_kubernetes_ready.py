"""`mlops:kubernetes:Ready` on a cluster in memory: what it waits for, and when it gives up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.plugin.errors import ResourceError, UnreachableError
from pulumi_mlops.targets.kubernetes import ports, proxies
from pulumi_mlops.targets.kubernetes.api.workloads import is_complete
from pulumi_mlops.targets.kubernetes.resources import wait
from pulumi_mlops.targets.kubernetes.resources.ready import ReadyInputs

from .kubernetes_fixtures import (
    Ready,
    Waiting,
    begin,
    container,
    job,
    pod,
    replica_set,
    rolled_out,
    waiting,
    workload,
)  # fmt: skip


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(*steps: Any) -> Ready:
        return begin(tmp_path, monkeypatch, *steps)

    return make


def refused(ready: Ready, kind: str = "Deployment", **inputs: Any) -> str:
    with pytest.raises(ResourceError) as refusal:
        ready.create(kind, **inputs)
    return str(refusal.value)


# Rollouts


@pytest.mark.parametrize(
    ("status", "done"),
    [
        ({}, True),
        ({"observedGeneration": 1}, False),
        ({"updatedReplicas": 1}, False),
        ({"replicas": 3}, False),
        ({"availableReplicas": 1}, False),
    ],
)
def test_when_a_deployment_is_rolled_out(status: Any, done: bool) -> None:
    found = rolled_out(generation=2)
    found["status"] |= status
    assert is_complete(found) is done


@pytest.mark.parametrize(
    ("status", "done"),
    [
        ({"replicas": 5, "updatedReplicas": 5, "availableReplicas": 2}, True),
        ({"replicas": 5, "updatedReplicas": 5, "availableReplicas": 5}, True),
        ({"replicas": 5, "updatedReplicas": 4, "availableReplicas": 5}, False),
        ({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}, False),
        ({"observedGeneration": 1}, False),
    ],
)
def test_when_a_deployment_is_rolled_out_whose_pods_come_and_go(status: Any, done: bool) -> None:
    found = rolled_out(generation=2)
    found["spec"]["replicas"] = status.get("replicas", 2)
    found["status"] |= status
    assert is_complete(found, min_replicas=2) is done


def test_the_least_of_an_autoscaler_is_waited_for(ready: Any) -> None:
    def scaled() -> None:
        found = rolled_out()
        found["spec"]["replicas"] = found["status"]["replicas"] = 4
        found["status"]["updatedReplicas"] = 4
        it.cluster.put(found)

    it: Ready = ready(None, scaled)
    one = workload(replicas=1, updatedReplicas=1, readyReplicas=1, availableReplicas=1)
    one["spec"]["replicas"] = 1
    it.cluster.put(one, replica_set(), pod(ready=True))
    assert it.create(replicas=2, content="0f")["status"] == "ready"
    assert len(it.log.of("status")) == 3
    assert it.log.of("warning") == []
    # The two that were added are not ready yet.
    assert read(it, "Deployment", {"status": "ready", "replicas": 2.0}) == {"status": "ready"}
    assert read(it, "Deployment", {"status": "ready"}) == {"status": "not ready"}


def test_an_autoscaler_that_is_told_nothing_is_warned_of(ready: Any) -> None:
    it = ready()
    it.cluster.put(rolled_out())
    it.cluster.forbidden = {"apis/metrics.k8s.io/v1beta1"}
    assert it.create(replicas=2)["status"] == "ready"
    (warning,) = it.log.of("warning")
    for named in ("tool", "2 replicas (max_replicas has no effect)", "metrics-server", "404"):
        assert named in warning
    it.create()
    assert len(it.log.of("warning")) == 1


@pytest.mark.parametrize(
    ("status", "done"),
    [
        ({}, True),
        ({"observedGeneration": 1}, False),
        ({"readyReplicas": 1}, False),
        ({"updateRevision": "b"}, False),
    ],
)
def test_when_a_stateful_set_is_rolled_out(status: Any, done: bool) -> None:
    found = rolled_out("StatefulSet", generation=2)
    found["status"] |= status
    assert is_complete(found) is done


def test_a_workload_that_was_never_looked_at_is_not_ready() -> None:
    found = rolled_out()
    del found["status"]
    assert not is_complete(found)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_it_waits_until_all_pods_are_ready(ready: Any, kind: str) -> None:
    it: Ready = ready(None, lambda: it.cluster.put(rolled_out(kind)))
    it.cluster.put(workload(kind), replica_set(), pod())
    assert it.create(kind) == {"outputs": {}, "status": "ready"}
    assert it.log.of("status") == ["waiting: tool-1-a pending"] * 2 + ["ready"]


def test_what_is_ready_already_says_nothing(ready: Any) -> None:
    it = ready()
    it.cluster.put(rolled_out())
    it.create()
    assert it.log.lines == []


def test_pods_of_the_template_before_are_not_spoken_of(ready: Any) -> None:
    it: Ready = ready(lambda: it.cluster.put(rolled_out()))
    old = pod("tool-9-z", containerStatuses=waiting("InvalidImageName"))
    new = pod("tool-10-a")
    gone = pod("tool-10-b")
    gone["metadata"]["deletionTimestamp"] = "now"
    it.cluster.put(workload(), replica_set(9), replica_set(10), old, new, gone)
    it.create()
    assert it.log.of("status") == ["waiting: tool-10-a pending", "ready"]


# When waiting is of no use


def test_a_program_that_gives_up_ends_the_wait_with_its_error(ready: Any) -> None:
    """A model that does not load: its server runs, and no restart would change that."""
    it: Ready = ready(*[None] * 60)
    running = pod(phase="Running", containerStatuses=container(running={}))
    probe = {"httpGet": {"path": "/ready", "port": 8080}}
    running["spec"]["containers"] = [{"name": "main", "readinessProbe": probe}]
    it.cluster.put(workload(), replica_set(), running)
    it.cluster.logs["tool-1-a"] = "ModuleNotFoundError: No module named 'xgboost'\n"
    error = "the model does not load: ModuleNotFoundError: No module named 'xgboost'"
    it.cluster.readiness["tool-1-a"] = {"ready": False, "error": error, "failed": True}
    told = refused(it, timeoutSeconds=600)
    assert told.splitlines()[0] == f"Deployment tool cannot become ready: {error}"
    assert "its log (kubectl logs tool-1-a) ends with:" in told
    assert len(it.log.of("status")) < 10, "seconds, and not the ten minutes that it may take"


@pytest.mark.parametrize("answer", [{"failed": False}, ["failed"], "no JSON: {", None])
def test_a_program_that_may_still_become_ready_is_waited_for(ready: Any, answer: Any) -> None:
    it: Ready = ready(*[None] * 20, lambda: it.cluster.put(rolled_out()))
    running = pod(phase="Running", containerStatuses=container(running={}))
    probe = {"httpGet": {"path": "/ready", "port": 8080}}
    running["spec"]["containers"] = [{"name": "main", "readinessProbe": probe}]
    it.cluster.put(workload(), replica_set(), running)
    if answer is not None:
        it.cluster.readiness["tool-1-a"] = answer
    it.create()


def test_a_crash_loop_ends_the_wait_with_the_log(ready: Any) -> None:
    def crashes(restarts: int) -> Any:
        last = {"exitCode": 3, "reason": "Error"}
        state = container(restarts, last, waiting={"reason": "CrashLoopBackOff"})
        return lambda: it.cluster.put(pod(containerStatuses=state))

    it: Ready = ready(crashes(5), crashes(6), crashes(7))
    it.cluster.put(workload(), replica_set(), pod())
    it.cluster.logs["tool-1-a"] = "Traceback\nKeyError: 'MODEL'\n"
    told = refused(it)
    assert told.splitlines() == [
        "Deployment tool cannot start",
        "pod tool-1-a: exit code 3",
        "  its log (kubectl logs tool-1-a) ends with:",
        "    Traceback",
        "    KeyError: 'MODEL'",
    ]


def fetching(restarts: int, **state: Any) -> Any:
    """A pod whose init container `fetch` has this state."""
    (fetch,) = container(
        restarts, {"exitCode": 1, "reason": "Error"} if restarts else None, **state
    )
    return pod(
        initContainerStatuses=[{**fetch, "name": "fetch"}],
        containerStatuses=waiting("PodInitializing"),
    )


def test_an_init_container_that_fails_repeatedly_ends_the_wait_with_its_log(ready: Any) -> None:
    def fails(restarts: int) -> Any:
        crashed = {"waiting": {"reason": "CrashLoopBackOff"}}
        return lambda: it.cluster.put(fetching(restarts, **crashed))

    it: Ready = ready(fails(0), fails(1), fails(2))
    it.cluster.put(workload(), replica_set(), fetching(0))
    it.cluster.logs["tool-1-a/fetch"] = "error: version 9 of model 'iris' is not registered\n"
    assert refused(it).splitlines() == [
        "Deployment tool cannot start",
        "pod tool-1-a: exit code 1",
        "  its log (kubectl logs tool-1-a -c fetch) ends with:",
        "    error: version 9 of model 'iris' is not registered",
    ]


def test_the_image_of_an_init_container_that_does_not_exist_ends_the_wait(ready: Any) -> None:
    it = ready()
    missing = {"reason": "ErrImagePull", "message": "registry.example.com/a:1: not found"}
    it.cluster.put(workload(), replica_set(), fetching(0, waiting=missing))
    assert "cannot start\npod tool-1-a: ErrImagePull: registry.example.com/a:1" in refused(it)


def test_an_init_container_that_has_completed_is_ignored(ready: Any) -> None:
    """It failed twice during the wait and then completed. The servers still load the model."""
    done = fetching(2, terminated={"exitCode": 0})
    done["status"]["initContainerStatuses"][0]["ready"] = True
    it: Ready = ready(
        lambda: it.cluster.put(fetching(1, running={})),
        *[lambda: it.cluster.put(done)] * 20,
        lambda: it.cluster.put(rolled_out()),
    )
    it.cluster.put(workload(), replica_set(), fetching(0, running={}))
    assert it.create()["status"] == "ready"


def test_restarts_before_the_wait_do_not_count(ready: Any) -> None:
    """What it wanted may be there now."""
    it: Ready = ready(*[None] * 20, lambda: it.cluster.put(rolled_out()))
    it.cluster.put(workload(), replica_set())
    it.cluster.put(pod(containerStatuses=waiting("CrashLoopBackOff", restarts=50)))
    assert it.create()["status"] == "ready"


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ImagePullBackOff", "Back-off pulling image"),
        ("ErrImagePull", "registry.example.com/a:1: not found"),
        ("InvalidImageName", "couldn't parse"),
        ("CreateContainerConfigError", 'secret "tool-secrets" not found'),
    ],
)
def test_what_can_never_start_ends_the_wait(ready: Any, reason: str, message: str) -> None:
    it = ready()
    it.cluster.put(workload(), replica_set(), pod(containerStatuses=waiting(reason, message)))
    told = refused(it)
    assert told.startswith(f"Deployment tool cannot start\npod tool-1-a: {reason}: {message} - ")


def test_what_may_pass_is_given_a_moment(ready: Any) -> None:
    """A Secret that comes just after its pod, a registry that does not answer at once."""
    it: Ready = ready(
        None, lambda: it.cluster.put(pod()), None, lambda: it.cluster.put(rolled_out())
    )
    it.cluster.put(workload(), replica_set())
    it.cluster.put(pod(containerStatuses=waiting("CreateContainerConfigError")))
    assert it.create()["status"] == "ready"
    it = ready(*[None] * 20, lambda: it.cluster.put(rolled_out()))
    it.cluster.put(workload(), replica_set())
    it.cluster.put(pod(containerStatuses=waiting("ErrImagePull", "i/o timeout")))
    assert it.create()["status"] == "ready"


def test_the_time_that_it_may_take_has_an_end(ready: Any) -> None:
    it = ready()
    it.cluster.put(
        workload(), replica_set(), pod(phase="Running", containerStatuses=container(running={}))
    )
    it.cluster.logs["tool-1-a"] = "loading the model"
    told = refused(it, timeoutSeconds=90)
    assert told.startswith("Deployment tool is not ready after 90 s\npod tool-1-a: running, but")
    assert "loading the model" in told


def test_an_interruption_ends_the_wait(ready: Any) -> None:
    it = ready(None, lambda: Waiting)
    it.cluster.put(workload(), replica_set())
    assert refused(it) == "interrupted while waiting for Deployment tool"


def test_what_somebody_deleted_is_told(ready: Any) -> None:
    it: Ready = ready(lambda: it.cluster.delete("Deployment", "tool"))
    it.cluster.put(workload(), replica_set())
    told = refused(it)
    assert told == (
        "Deployment tool is gone: it was deleted by other means. Run `pulumi refresh`, then update "
        "again"
    )


# A route's table

TABLE = {"v1": {"service": "a", "port": 8080, "weight": 90, "check_path": "/ready"}}


def test_a_route_waits_until_every_proxy_has_the_table(ready: Any) -> None:
    def one() -> None:
        it.cluster.tables["tool-1-a"] = {"table": TABLE}
        it.cluster.tables["tool-1-b"] = {"table": None}

    def both() -> None:
        it.cluster.tables["tool-1-b"] = {"table": TABLE}

    it: Ready = ready(one, both)
    it.cluster.put(rolled_out(), replica_set(), pod("tool-1-a", ready=True))
    it.cluster.put(pod("tool-1-b", ready=True))
    # As the engine has numbers.
    it.create(table=json.loads(json.dumps(TABLE), parse_int=float))
    assert it.log.of("status") == [
        "waiting until the traffic table is applied by tool-1-a, tool-1-b",
        "waiting until the traffic table is applied by tool-1-b",
        "ready",
    ]


def test_a_proxy_that_does_not_take_the_table_says_why(ready: Any) -> None:
    it = ready()
    it.cluster.put(rolled_out(), replica_set(), pod("tool-1-a", ready=True))
    it.cluster.tables["tool-1-a"] = {"table": None}
    it.cluster.logs["tool-1-a"] = "no pod of v2 is ready: the table before goes on"
    told = refused(it, table=TABLE, timeoutSeconds=180)
    assert told.startswith("Deployment tool has not applied the traffic table after 180 s\n")
    assert "pod tool-1-a:" in told
    assert "no pod of v2 is ready" in told


def test_an_answer_that_is_no_json_is_no_table(ready: Any) -> None:
    it: Ready = ready(lambda: it.cluster.tables.update({"tool-1-a": {"table": TABLE}}))
    it.cluster.put(rolled_out(), replica_set(), pod("tool-1-a", ready=True))
    it.cluster.tables["tool-1-a"] = "<html>"
    assert it.create(table=TABLE)["status"] == "ready"


# The rest of the handler


def read(ready: Ready, kind: str, state: dict[str, Any] | None = None) -> Any:
    given = {"status": "ready"} if state is None else state
    return ready.handler.read(ready.ctx, f"team/{kind}/tool", given)


def test_read_says_how_it_is(ready: Any) -> None:
    it = ready()
    assert read(it, "Deployment") is None
    it.cluster.put(rolled_out(), job("Complete"))
    assert read(it, "Deployment") == {"status": "ready"}
    assert read(it, "Job") == {}
    it.cluster.put(workload())
    assert read(it, "Deployment") == {"status": "not ready"}


def test_a_cluster_that_does_not_answer_leaves_what_is_recorded(ready: Any) -> None:
    it = ready()
    it.cluster.fails = UnreachableError("no cluster answers")
    assert read(it, "Deployment") == {}
    assert it.log.of("warning") == ["the recorded state is kept: no cluster answers"]


def test_a_wait_cannot_be_imported(ready: Any) -> None:
    with pytest.raises(ResourceError, match="a Ready resource cannot be imported"):
        read(ready(), "Deployment", {})


def test_previews_know_what_they_can(ready: Any) -> None:
    def preview(kind: str, old: Any) -> Any:
        new = ReadyInputs.model_validate({"kind": kind, "namespace": "team", "name": "tool"})
        return ready().handler.preview(ready().ctx, new, old)

    assert preview("Deployment", None) == {"status": "ready", "outputs": {}}
    assert preview("Job", None) == {"status": "ready"}
    old = {"outputs": {"version": "1"}}
    assert preview("Job", old) == {"status": "ready", **old}


def test_proxies_are_asked_at_the_port_that_their_pods_have() -> None:
    assert wait.PROXY_STATE_PORT == ports.PROXY_STATE_PORT == proxies._PORT_NUMBERS["state"]
    package = Path(ports.__file__).parent
    digits = str(ports.PROXY_STATE_PORT)
    assert [file.name for file in package.rglob("*.py") if digits in file.read_text()] == [
        "ports.py"
    ]


def test_a_state_without_a_cluster_records_it_once(ready: Any) -> None:
    """`pulumi destroy` compares the recorded cluster, and runs no program that could add it."""
    it: Ready = ready()
    assert it.handler.drift(it.ctx, "team/Deployment/tool", {"status": "ready"}) == {
        "cluster": "not recorded"
    }
    recorded = {"status": "ready", "cluster": {"uid": "1"}}
    assert it.handler.drift(it.ctx, "team/Deployment/tool", recorded) == {}
