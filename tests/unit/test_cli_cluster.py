"""`mlops status`, `logs` and `run` of a stack on a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.cli import main
from pulumi_mlops.cli.selection import UsageError, find_stack
from pulumi_mlops.targets.kubernetes.api.pods import Manifest
from pulumi_mlops.targets.kubernetes.operations import follow, inventory

from .cluster_fixtures import (
    FakeApi,
    deployment,
    job,
    labels,
    made_project,
    metadata,
    pod,
    service,
)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    monkeypatch.chdir(made_project(tmp_path))
    monkeypatch.delenv("STACK", raising=False)
    monkeypatch.setenv("PULUMI_STACK", "prod")
    made = FakeApi()
    monkeypatch.setattr(inventory, "ClusterApi", lambda where: made)
    return made


def _status(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["status", "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_what_is_healthy(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    deployment(api, "shop-tracking-server")
    deployment(api, "shop-x-v1", ready=2, wanted=2)
    api.objects["Service"][-1]["spec"]["clusterIP"] = "None"
    deployment(api, "other", instance="shop-dev")
    job(api, "shop-x-job", "shop-x-job-1", outputs='{"version": 3}')
    api.add("PersistentVolumeClaim", {
        "metadata": metadata("shop-data", labels("shop-data", "data")),
        "spec": {"resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "fast"},
        "status": {"phase": "Bound"},
    })  # fmt: skip
    code, found = _status(capsys)
    assert (code, found["healthy"], found["stack"], found["namespace"]) == (0, True, "prod", "team")
    tracking, versions = found["programs"]
    assert (tracking["state"], tracking["ready"], tracking["image"]) == ("ready", 1, "0123456789ab")
    assert tracking["urls"] == {"http": "http://shop-tracking-server.team.svc:8080"}
    assert (versions["ready"], versions["wanted"], versions["urls"]) == (2, 2, {})
    (run,) = found["jobs"]
    assert (run["state"], run["seconds"], run["outputs"]) == ("succeeded", 9.0, {"version": 3})
    assert found["volumes"][0]["state"] == "bound"
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    assert "Everything is healthy" in shown
    assert "mlops connect" in shown
    assert "other" not in shown


@pytest.mark.parametrize(("ready", "state"), [(1, "degraded"), (0, "not ready")])
def test_what_is_not_says_why(
    api: FakeApi, capsys: pytest.CaptureFixture[str], ready: int, state: str
) -> None:
    deployment(api, "shop-x-v1", ready=ready, wanted=2)
    code, found = _status(capsys)
    assert (code, found["healthy"], found["programs"][0]["state"]) == (1, False, state)
    assert "push the image" in found["programs"][0]["reason"]
    assert main(["status"]) == 1
    shown = capsys.readouterr().out
    assert f"shop-x-v1 is {state}: ImagePullBackOff" in shown
    assert "no such image" in shown


def _conditions(**status: str) -> list[dict[str, object]]:
    reasons = {"False": "NoMatchingListenerHostname"}
    return [{"type": kind, "status": value, "reason": reasons.get(value, ""), "message": "no host",
             "observedGeneration": 1} for kind, value in status.items()]  # fmt: skip


@pytest.mark.parametrize(
    ("told", "state", "why"),
    [
        (_conditions(Accepted="True", ResolvedRefs="True"), "taken", "Everything is healthy."),
        (_conditions(Accepted="False", ResolvedRefs="True"), "refused",
         "shop-x-route is refused: not Accepted: NoMatchingListenerHostname: no host - no"),
        ([], "waiting", "shop-x-route is waiting: no controller has processed it: `mlops doctor`"),
    ],
)  # fmt: skip
def test_the_routes_of_a_gateway(
    api: FakeApi, capsys: pytest.CaptureFixture[str],
    told: list[dict[str, object]], state: str, why: str,
) -> None:  # fmt: skip
    gateway = {"name": "public", "namespace": "gateways", "url": "http://*.example.com"}
    made_project(Path.cwd(), gateway=gateway)
    deployment(api, "shop-x-v1")
    parent = {"name": "public", "namespace": "gateways"}
    backends = [{"name": "shop-x-v1", "port": 8080, "weight": 90},
                {"name": "shop-x-v2", "port": 8080, "weight": 10}]  # fmt: skip
    api.add("HTTPRoute", {
        "metadata": metadata("shop-x-route", labels("shop-x-route", "route")),
        "spec": {"parentRefs": [parent], "hostnames": ["x.example.com"],
                 "rules": [{"backendRefs": backends}]},
        "status": {"parents": [{"parentRef": parent, "conditions": told}]},
    })  # fmt: skip
    code, found = _status(capsys)
    assert (code, found["routes"][0]["state"]) == (0 if state == "taken" else 1, state)
    assert found["routes"][0]["traffic"] == {"shop-x-v1": 90, "shop-x-v2": 10}
    main(["status"])
    shown = capsys.readouterr().out
    assert why in shown
    assert "90 shop-x-v1, 10 shop-x-v2" in shown
    assert "x.example.com" in shown


def test_what_is_being_deleted_says_so(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    going = deployment(api, "shop-y", ready=0)
    for each in (going, api.objects["Pod"][0]):
        each["metadata"]["deletionTimestamp"] = "2026-11-23T08:00:00Z"
    assert main(["status"]) == 1
    shown = capsys.readouterr().out
    assert "shop-y is ending: it is being deleted" in shown
    assert "ImagePullBackOff" not in shown


def test_a_job_is_as_its_last_run(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    job(api, "shop-x-job", "shop-x-job-2", condition="Failed", code=7, begun=30)
    job(api, "shop-x-job", "shop-x-job-1", begun=1)
    code, found = _status(capsys)
    assert (code, found["jobs"][0]["state"]) == (1, "failed")
    assert found["jobs"][0]["reason"] == "exit code 7"
    assert main(["status"]) == 1
    assert "`mlops run` runs it again" in capsys.readouterr().out


def _waiting(api: FakeApi, component: str = "job") -> None:
    spec = {"template": {"metadata": {"labels": labels("shop-x-job", "job")}, "spec": {}}}
    name = "shop-x-job" if component == "job" else "shop-x-schedule"
    api.add("CronJob", {
        "metadata": metadata(name, labels(name, component)),
        "spec": {"schedule": "0 3 * * *", "timeZone": "UTC", "jobTemplate": {"spec": spec}},
        "status": {},
    })  # fmt: skip


def test_jobs_that_wait_and_schedules(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    _waiting(api)
    _waiting(api, "schedule")
    code, found = _status(capsys)
    assert (code, found["jobs"][0]["state"]) == (0, "not run")
    assert [(each["name"], each["cron"]) for each in found["schedules"]] == [
        ("shop-x-schedule", "0 3 * * *")
    ]


def test_an_empty_namespace_says_how_to_fill_it(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status"]) == 0
    assert "run `pulumi up`" in capsys.readouterr().out


# Logs


def test_logs_of_several_pods_say_whose_they_are(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment(api, "shop-x-v1", ready=2, wanted=2)
    deployment(api, "shop-y")
    api.logs = {("shop-x-v1-0", False): "a\nb\n", ("shop-x-v1-1", False): "c\n"}
    assert main(["logs", "v1", "-n", "1"]) == 0
    assert capsys.readouterr().out == "shop-x-v1-0 | b\nshop-x-v1-1 | c\n"
    assert main(["logs", "nothing"]) == 2
    assert "shop-x-v1, shop-y" in capsys.readouterr().err
    assert main(["logs"]) == 0
    assert "shop-x-v1-0, shop-x-v1-1" in capsys.readouterr().out


def test_the_log_of_a_job_is_that_of_its_last_run(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        job(api, "shop-x-job", f"run{number}", begun=number)
        api.logs[(f"run{number}-pod", False)] = f"this is run {number}\n"
    assert main(["logs", "x-job"]) == 0
    assert capsys.readouterr().out == "this is run 2\n"
    assert main(["logs", "x-job", "--previous"]) == 0
    assert capsys.readouterr().out == "this is run 1\n"


def test_the_log_before_a_restart(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    deployment(api, "shop-y")
    api.logs = {("shop-y-0", True): "the end\n"}
    assert main(["logs", "shop-y", "--previous"]) == 2
    assert "none of its pods was restarted" in capsys.readouterr().err
    api.objects["Pod"][0]["status"]["containerStatuses"][0]["restartCount"] = 1
    assert main(["logs", "shop-y", "--previous"]) == 0
    assert capsys.readouterr().out == "the end\n"
    assert main(["logs", "shop-y", "--previous", "-f"]) == 2


def test_following_goes_on_with_a_restarted_container(api: FakeApi) -> None:
    shown: list[str] = []
    follower = follow.Follower(api, 10, lambda name, line: shown.append(f"{name} {line}"))  # type: ignore[arg-type]
    api.logs = {("p", False): "one\ntwo"}
    first = pod("p", {})
    follower.update([first])
    follower.flush()
    # The connection breaks, and what was read comes again.
    follower.update([first])
    follower.flush()
    assert shown == ["p one", "p two"]
    api.logs = {("p", False): "anew"}
    follower.update([pod("p", {}, containerID="containerd://second")])
    follower.flush()
    assert shown[2:] == ["p anew"]


def test_times_sort_though_the_cluster_leaves_out_zeros() -> None:
    stamps = ["2026-01-01T00:00:08Z", "2026-01-01T00:00:08.05Z", "2026-01-01T00:00:08.5Z"]
    assert sorted(reversed(stamps), key=follow._order) == stamps


# Runs


def _ends(api: FakeApi, condition: str = "Complete", code: int = 0, outputs: str = "") -> None:
    """Have the next run end at once."""

    def ended(made: Manifest) -> None:
        name = made["metadata"]["name"]
        api.objects["Job"].remove(made)
        job(api, "shop-x-job", name, condition=condition, code=code, outputs=outputs,
            begun=50, uid=name)  # fmt: skip
        api.logs[(f"{name}-pod", False)] = "epoch 1\n"

    api.on_create = ended


def test_a_run_beside_the_one_that_was_provisioned(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    job(api, "shop-x-job", "shop-x-job-1")
    job(api, "shop-x-job", "by-hand", begun=20, annotations={"mlops/started-by": "mlops run"})
    _ends(api, outputs='{"version": "3", "metrics": {"auc": 0.5}}')
    assert main(["run", "x"]) == 0
    shown = capsys.readouterr()
    assert shown.out == 'epoch 1\n  version: 3\n  metrics: {"auc": 0.5}\n'
    assert "done: shop-x-job" in shown.err
    (made,) = api.created
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "shop-x-job-1",
         "uid": "uid-shop-x-job-1", "controller": False}
    ]  # fmt: skip
    assert "selector" not in made["spec"]
    assert made["spec"]["template"]["metadata"]["labels"] == labels("shop-x-job", "job")
    assert api.deleted == []


def test_a_run_of_a_job_that_waits(api: FakeApi) -> None:
    _waiting(api)
    _ends(api)
    assert main(["run", "x"]) == 0
    (owner,) = api.created[0]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["controller"]) == ("CronJob", True)


def test_it_exits_with_the_code_of_the_job(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    _waiting(api)
    _ends(api, "Failed", code=7)
    assert main(["run", "x"]) == 7
    shown = capsys.readouterr()
    assert (shown.out, "exit code 7" in shown.err) == ("epoch 1\n", True)
    assert "mlops logs shop-x-job" in shown.err


def test_one_at_a_time_and_only_what_there_is(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "x"]) == 2
    job(api, "shop-x-job", "shop-x-job-1", condition="")
    assert main(["run", "x"]) == 1
    assert "already running" in capsys.readouterr().err
    assert main(["run", "y"]) == 2
    assert "there are shop-x-job" in capsys.readouterr().err


def test_an_interrupted_run_is_ended(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    _waiting(api)
    api.on_create = lambda made: threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert main(["run", "x"]) == 130
    assert "interrupted: shop-x-job" in capsys.readouterr().err
    assert api.deleted == [("Job", api.created[0]["metadata"]["name"])]


# Which stack


def test_a_stack_of_a_cluster_is_known_by_its_file(tmp_path: Path) -> None:
    project = made_project(tmp_path, kubeconfig="here/kubeconfig", context="c")
    found = find_stack(project, "prod")
    assert found.target == "kubernetes"
    assert (found.project, found.files) == ("shop", project / ".mlops" / "prod")
    where = inventory.connect(found).where
    assert (where.namespace, where.context) == ("team", "c")
    assert where.kubeconfig == str(project / "here" / "kubeconfig")
    with pytest.raises(UsageError, match=r"no stack in .*configured, with no files here: prod"):
        find_stack(project, None)
    (project / ".mlops" / "prod" / "images").mkdir(parents=True)
    assert find_stack(project, None).name == "prod"
    (project / ".mlops" / "dev" / "programs").mkdir(parents=True)
    (project / "Pulumi.dev.yaml").write_text("config: {mlops:target: local}\n# not kubernetes\n")
    assert find_stack(project, "dev").target == "local"


def test_a_stack_of_this_machine_pays_nothing_for_clusters(tmp_path: Path) -> None:
    made_project(tmp_path)
    (tmp_path / ".mlops" / "dev" / "programs").mkdir(parents=True)
    (tmp_path / "Pulumi.dev.yaml").write_text("config:\n  mlops:target: local\n")
    program = (
        "import sys; from pulumi_mlops.cli import main\n"
        "main(['status', '--stack', 'dev'])\n"
        "print([name for name in sys.modules if 'kr8s' in name or 'kubernetes' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_without_kr8s_it_says_what_to_install(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inventory, "find_spec", lambda name: None)
    assert main(["status"]) == 1
    assert "pulumi-mlops[kubernetes]" in capsys.readouterr().err
    service(api, "x")
