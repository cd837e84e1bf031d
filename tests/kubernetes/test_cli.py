"""The command `mlops` on a real cluster: a server, a job and tunnels, made without the engine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.targets.kubernetes import manifests

pytestmark = pytest.mark.kubernetes

IMAGE = "mlops.test/busybox:1"  # of the fixture `busybox`
BUSYBOX = "/busybox"
SERVE = """
echo the server starts
echo hello > /tmp/index.html
exec /busybox httpd -f -p 8080 -h /tmp
"""
SERVER, JOB = "shop-tracking-server", "shop-x-job"


class Shop:
    """A stack `prod` of the project `shop`, in a namespace of its own."""

    def __init__(self, folder: Path) -> None:
        self.namespace = f"cli-{uuid.uuid4().hex[:8]}"
        self.folder = folder
        (folder / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
        config = {"mlops:target": "kubernetes", "mlops:kubernetes": {"namespace": self.namespace}}
        (folder / "Pulumi.prod.yaml").write_text(json.dumps({"config": config}))

    def kubectl(self, *command: str, given: str = "") -> str:
        done = subprocess.run(
            ["kubectl", "--namespace", self.namespace, *command],
            input=given, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, api: str, kind: str, name: str, labels: dict[str, str], spec: Any) -> None:
        about = {"name": name, "namespace": self.namespace, "labels": labels}
        manifest = {"apiVersion": api, "kind": kind, "metadata": about, "spec": spec}
        self.kubectl("apply", "-f", "-", given=json.dumps(manifest))

    def server(self, script: str = SERVE) -> None:
        marks = manifests.labels("shop-prod", SERVER, "service")
        template = manifests.template(marks, pod(script))
        self.apply("apps/v1", "Deployment", SERVER, marks,
                   manifests.deployment(marks, 1, template, 60, several=False))  # fmt: skip
        self.apply("v1", "Service", SERVER, marks, manifests.service(marks, {"http": 8080}))

    def job(self, script: str) -> None:
        marks = manifests.labels("shop-prod", JOB, "job")
        template = manifests.template(marks, pod(script))
        self.apply("batch/v1", "Job", JOB, marks, manifests.job(template, 60))

    def mlops(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*command), cwd=self.folder, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip

    def command(self, *command: str) -> list[str]:
        cut = command.index("--") if "--" in command else len(command)
        own, rest = command[:cut], command[cut:]
        return [sys.executable, "-m", "pulumi_mlops.cli", *own, "--stack", "prod", *rest]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.mlops("status", "--json").stdout)
        return found


def pod(script: str) -> dict[str, Any]:
    container = manifests.container(
        "main", IMAGE, [BUSYBOX, "sh", "-c", script], [], numbers={"http": 8080}
    )
    return manifests.pod([container], stop_seconds=1)


@pytest.fixture
def shop(busybox: str, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    made.kubectl("create", "namespace", made.namespace)
    yield made
    made.kubectl("delete", "namespace", made.namespace, "--wait=false")


def until(met: Callable[[], object]) -> None:
    while not met():
        time.sleep(0.3)


def test_status_says_what_is_well_and_what_is_not(shop: Shop) -> None:
    shop.server()
    until(lambda: shop.status()["healthy"])
    shown = shop.mlops("status")
    assert shown.returncode == 0
    assert f"http://{SERVER}.{shop.namespace}.svc:8080" in shown.stdout
    shop.kubectl("set", "image", f"deployment/{SERVER}", "main=no-such-host.invalid/image:1")
    until(lambda: "push the image" in shop.status()["programs"][0]["reason"])
    shown = shop.mlops("status")
    assert shown.returncode == 1
    assert f"{SERVER} is updating" in shown.stdout


def test_following_a_log_through_a_new_pod(shop: Shop) -> None:
    shop.server()
    until(lambda: shop.status()["healthy"])
    assert shop.mlops("logs", "tracking").stdout == "the server starts\n"
    with subprocess.Popen(
        shop.command("logs", "tracking", "-f"), cwd=shop.folder, stdout=subprocess.PIPE, text=True
    ) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "the server starts\n"
        shop.kubectl("delete", "pod", "--all")
        assert follower.stdout.readline().rstrip().endswith("| the server starts")
        follower.send_signal(signal.SIGINT)
        assert follower.wait(30) == 0


def test_a_run_beside_the_job_that_was_provisioned(shop: Shop) -> None:
    shop.job('echo epoch 1; echo \'{"version": "3"}\' > /dev/termination-log')
    until(lambda: [job["state"] for job in shop.status()["jobs"]] == ["succeeded"])
    ran = shop.mlops("run", "x")
    assert (ran.returncode, ran.stdout) == (0, "epoch 1\n  version: 3\n"), ran.stderr
    jobs = shop.kubectl("get", "jobs", "-o", "name").split()
    assert len(jobs) == 2
    assert shop.mlops("logs", JOB, "--previous").stdout == "epoch 1\n"
    # It goes with the one that it was made from.
    shop.kubectl("delete", "job", JOB)
    until(lambda: not shop.kubectl("get", "jobs", "-o", "name").split())


def test_the_exit_code_and_the_end_of_a_run(shop: Shop) -> None:
    shop.job("echo no data; exit 7")
    until(lambda: [job["state"] for job in shop.status()["jobs"]] == ["failed"])
    assert "exit code 7" in shop.mlops("status").stdout
    assert shop.mlops("run", "x").returncode == 7
    shop.kubectl("delete", "jobs", "--all")
    shop.job("echo begun; sleep 5")
    until(lambda: [job["state"] for job in shop.status()["jobs"]] == ["succeeded"])
    with subprocess.Popen(
        shop.command("run", "x"), cwd=shop.folder, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "begun\n"
        assert "already running" in shop.mlops("run", "x").stderr
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130
    assert len(shop.kubectl("get", "jobs", "-o", "name").split()) == 1


FETCH = """
import sys, time, urllib.request
for _ in range(300):
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=5).status)
        break
    except OSError:
        time.sleep(0.3)
"""


def test_tunnels_outlive_a_pod(shop: Shop) -> None:
    shop.server()
    until(lambda: shop.status()["healthy"])
    inside = f"http://{SERVER}.{shop.namespace}.svc:8080/"
    fetch = [sys.executable, "-c", FETCH]
    ran = shop.mlops("connect", "--", *fetch, inside)
    assert (ran.returncode, ran.stdout) == (0, "200\n"), ran.stderr
    with subprocess.Popen(
        shop.command("connect"), cwd=shop.folder, stdout=subprocess.PIPE, text=True
    ) as connected:
        assert connected.stdout is not None
        lines = iter(connected.stdout.readline, "")
        here = next(line.split()[1] for line in lines if line.strip().startswith("shop-tracking"))
        for _ in range(2):
            ran = subprocess.run([*fetch, here], capture_output=True, text=True, check=False)
            assert ran.stdout == "200\n"
            shop.kubectl("delete", "pod", "--all")
        connected.send_signal(signal.SIGINT)
        assert connected.wait(30) == 0


def test_the_doctor_finds_the_cluster_well(shop: Shop) -> None:
    found = json.loads(shop.mlops("doctor", "--json").stdout)["checks"]
    told = {check["name"]: check["verdict"] for check in found}
    assert {told[name] for name in ("cluster", "rights", "namespace")} == {"ok"}
