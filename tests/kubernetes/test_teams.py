"""Several teams on one cluster: neither reaches, reads or uses up what is another's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import docker_engine
import pytest
from mlops_project import MlopsProject

from pulumi_mlops.images.options import BuildOptions
from pulumi_mlops.targets.kubernetes.api.client import ClusterApi
from pulumi_mlops.targets.kubernetes.api.location import Where

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1800)]

# Of a team: a store, a server that people call, a model behind a route, and a job's like: a pod
# that may call whatever is outside of its platform.
PROGRAM = """
import pulumi_mlops as mlops
from pulumi_mlops.targets.port import Backend, RouteSpec

store = mlops.ArtifactStore("artifacts", {"retain": False})
serve("tracking", public=True)
model = serve("model", "/busybox", "sh", "-c",
              "echo ok > /tmp/health; exec /busybox httpd -f -h /tmp -p 8080", routed=True)
serve("client", calls=store.services, calls_outside=True)
backends = {"v1": Backend(service=model, weight=100, check_path="/health")}
here.route("route", RouteSpec(endpoint="route", backends=backends), opts)
pulumi.export("env", store.client_env)
"""
STORE, TRACKING, MODEL, ROUTE = "artifacts-server", "tracking", "model", "route"


class Team:
    """One of them, by its stack."""

    def __init__(self, stack: MlopsProject) -> None:
        self.stack, self.namespace = stack, stack.namespace
        self.env: dict[str, str] = stack.outputs()["env"]

    def reaches(self, other: Team, service: str) -> bool:
        """Whether a pod of this team gets a connection to a service of that one."""
        host = f"{service}.{other.namespace}.svc"
        script = (
            f"/busybox nslookup {host} >&2; /busybox nc -w 3 {host} 8080 </dev/null && echo yes"
        )
        pod = self.stack.get("pods", "-l", "app.kubernetes.io/name=client")["items"][0]
        name = pod["metadata"]["name"]
        done = subprocess.run(
            ["kubectl", "--namespace", self.namespace, "exec", name, "--",
             "/busybox", "sh", "-c", script],
            env=self.stack.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return "yes" in done.stdout

    def s3(self, of: Team) -> Any:
        """The store of a team, with this one's credentials."""
        at = ClusterApi(Where(of.namespace)).tunnel(STORE, 8080)
        return boto3.client(
            "s3", endpoint_url=f"http://{at}", region_name="us-east-1",
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip

    def may(self, account: str, verb: str, what: str, namespace: str) -> bool:
        """What a service account of this team may do."""
        who = f"system:serviceaccount:{self.namespace}:{account}"
        done = subprocess.run(
            ["kubectl", "auth", "can-i", verb, what, "--as", who, "--namespace", namespace],
            env=self.stack.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stdout.strip() in ("yes", "no"), done.stderr
        return done.stdout.strip() == "yes"


@pytest.fixture(scope="module")
def teams(
    cluster: Any,
    busybox: str,
    docker: docker_engine.Docker,
    options: BuildOptions,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Team, Team]]:
    folder = tmp_path_factory.mktemp("teams")
    build = {
        "ca": str(options.ca) if options.ca else None,
        "index_url": options.index_url,
        "network": options.network,
    }
    stacks = [
        MlopsProject(folder / name, PROGRAM, busybox, build=build, registry="mlops.test/dev",
                     volume_size="1Gi", quota=quota)
        for name, quota in (("a", {"pods": 10}), ("b", {}))
    ]  # fmt: skip
    first = stacks[0]
    first.preview()
    mlops = ["mlops", "images", "--stack", "dev"]
    env = {**first.env, **docker.env}
    subprocess.run([*mlops, "build"], cwd=first.folder, env=env, check=True)
    told = subprocess.run([*mlops, "--json"], cwd=first.folder, env=env, check=True,
                          capture_output=True, text=True).stdout  # fmt: skip
    wanted = [each["reference"] for each in json.loads(told)]
    there = cluster.images()
    if missing := [each for each in wanted if each not in there]:
        docker("save", "--output", str(folder / "images.tar"), *missing)
        cluster.load(folder / "images.tar")
        (folder / "images.tar").unlink()
    for each in stacks:
        each.up()
    yield Team(stacks[0]), Team(stacks[1])
    for each in stacks:
        each.destroy()


def test_a_pod_reaches_its_own_teams_services_and_no_others(teams: tuple[Team, Team]) -> None:
    a, b = teams
    for mine, other in ((a, b), (b, a)):
        assert mine.reaches(mine, STORE)
        assert mine.reaches(mine, TRACKING)
        assert mine.reaches(mine, ROUTE)
        for service in (STORE, TRACKING, MODEL, ROUTE):
            assert not mine.reaches(other, service), service


def test_the_credentials_of_a_team_open_its_own_store_alone(teams: tuple[Team, Team]) -> None:
    a, b = teams
    assert a.env["AWS_SECRET_ACCESS_KEY"] != b.env["AWS_SECRET_ACCESS_KEY"]
    b.s3(of=b).put_object(Bucket="artifacts", Key="x", Body=b"private")
    mine, theirs = a.s3(of=a), a.s3(of=b)
    mine.put_object(Bucket="artifacts", Key="x", Body=b"own")
    for ask in (
        lambda: theirs.get_object(Bucket="artifacts", Key="x"),
        lambda: theirs.put_object(Bucket="artifacts", Key="x", Body=b"not mine"),
        lambda: theirs.list_objects_v2(Bucket="artifacts"),
        theirs.list_buckets,
    ):
        with pytest.raises(botocore.exceptions.ClientError) as refusal:
            ask()
        assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert b.s3(of=b).get_object(Bucket="artifacts", Key="x")["Body"].read() == b"private"
    assert mine.get_object(Bucket="artifacts", Key="x")["Body"].read() == b"own"


def test_no_pod_has_a_token_that_reads_a_secret(teams: tuple[Team, Team]) -> None:
    a, b = teams
    for pod in a.stack.get("pods")["items"]:
        spec, account = pod["spec"], pod["spec"]["serviceAccountName"]
        sources = [
            each
            for volume in spec["volumes"]
            for each in volume.get("projected", {}).get("sources", [])
        ]
        tokens = [each for each in sources if "serviceAccountToken" in each]
        # The proxies of a route follow its table; no other pod asks the API anything.
        assert bool(tokens) is (account == ROUTE), pod["metadata"]["name"]
        assert (spec.get("automountServiceAccountToken") is False) is (account != ROUTE)
    for account in ("default", ROUTE):
        for namespace in (a.namespace, b.namespace, "kube-system"):
            for verb in ("get", "list", "create"):
                assert not a.may(account, verb, "secrets", namespace)
            assert not a.may(account, "create", "pods", namespace)
            assert not a.may(account, "get", "configmaps/mlops-owner", namespace)
    table = f"configmaps/{ROUTE}"
    assert a.may(ROUTE, "get", table, a.namespace)
    assert not a.may(ROUTE, "patch", table, a.namespace)
    assert not a.may(ROUTE, "get", table, b.namespace)
    assert not a.may("default", "get", table, a.namespace)


def test_the_quota_of_a_team_is_its_own(teams: tuple[Team, Team]) -> None:
    a, b = teams
    more = "serve('more', replicas=5, timeout=1)\n"
    a.stack.write(PROGRAM + more)
    told = a.stack.up(fails=True)
    assert "exceeded quota: quota" in told
    assert "Deployment more is not ready" in told
    b.stack.write(PROGRAM + more.replace(", timeout=1", ""))
    b.stack.up()
    assert b.stack.get("deployment", "more")["status"]["readyReplicas"] == 5
    for each in (a, b):
        each.stack.write(PROGRAM)
        each.stack.up()


def test_a_third_stack_cannot_move_in(teams: tuple[Team, Team], tmp_path: Path) -> None:
    a, _ = teams
    before = a.stack.objects()
    third = MlopsProject(tmp_path / "third", "serve('tracking', replicas=2)", "none:1",
                         namespace=a.namespace)  # fmt: skip
    for told in (third.preview(fails=True), third.up(fails=True)):
        assert f"namespace {a.namespace} belongs to another stack" in told
    third.run("destroy", "--yes", "--skip-preview")
    assert a.stack.objects() == before
