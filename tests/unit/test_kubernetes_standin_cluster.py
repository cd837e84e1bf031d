"""What the stand-in of the pulumi-kubernetes plugin asks of an API server, with one made up."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "kubernetes" / "provider"))
from standin.api import Api
from standin.checking import Refused
from standin.cluster import Cluster, Conflict
from standin.kubeconfig import Connection
from standin.managers import without_others
from standin.resources import InitFailed, Resources
from standin.settings import Settings
from standin.wire import UNKNOWN, Secret

URN = "urn:pulumi:dev::project::kubernetes:{}::thing"
CONFIG = URN.format("core/v1:ConfigMap")
JOB = URN.format("batch/v1:Job")
KINDS = {
    "/api/v1": {"ConfigMap": "configmaps", "Secret": "secrets", "Pod": "pods", "Event": "events"},
    "/apis/batch/v1": {"Job": "jobs"},
}


class Server:
    """An API server of a few kinds that keeps what it is given."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.asked: list[httpx.Request] = []
        self.on_get: Callable[[dict[str, Any]], None] = lambda obj: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, method = request.url.path, request.method
        self.asked.append(request)
        if path in KINDS:
            served = [
                {"kind": kind, "name": name, "namespaced": True}
                for kind, name in KINDS[path].items()
            ]
            return httpx.Response(200, json={"resources": served})
        body = json.loads(request.content) if request.content else {}
        if method == "POST":
            path += f"/{body['metadata']['name']}"
            if path in self.objects:
                return _refusal(409, "AlreadyExists", f"{path} already exists")
            obj = {**body, "metadata": {**body["metadata"], "uid": str(len(self.asked))}}
            if "dryRun" not in request.url.params:
                self.objects[path] = obj
            return httpx.Response(201, json=obj)
        if path.endswith(("/events", "/pods")):
            return httpx.Response(200, json={"items": []})
        if path not in self.objects:
            return _refusal(404, "NotFound", f"{path} not found")
        if method == "DELETE":
            return httpx.Response(200, json=self.objects.pop(path))
        if method == "GET":
            self.on_get(self.objects[path])
        if method == "PATCH" and request.url.params.get("force") == "false":
            return _refusal(409, "Conflict", 'conflict with "robot": .data.a')
        return httpx.Response(200, json=self.objects[path])

    def methods(self) -> list[str]:
        return [each.method for each in self.asked if each.url.path not in KINDS]


def _refusal(code: int, reason: str, message: str) -> httpx.Response:
    return httpx.Response(code, json={"reason": reason, "message": message})


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def resources(server: Server) -> Resources:
    settings = Settings()
    api = Api(Connection("http://server"), httpx.MockTransport(server))
    return Resources(settings, lambda *_, **__: None, _cluster=Cluster(api, settings))


def config(**fields: Any) -> dict[str, Any]:
    meta = {"name": "thing", "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, **fields}


def job() -> dict[str, Any]:
    return {**config(), "apiVersion": "batch/v1", "kind": "Job", "spec": {}}


def create(resources: Resources, urn: str, inputs: Any, **more: Any) -> Any:
    return resources.create(urn, inputs, **{"timeout": 0, "preview": False, **more})


def test_a_create_keeps_inputs_and_live_object(server: Server, resources: Resources) -> None:
    state = create(resources, CONFIG, config(data={"word": Secret("x")}))
    assert state["metadata"]["uid"] and state["data"] == {"word": Secret("x")}
    assert state["__inputs"] == config(data={"word": Secret("x")})
    assert state["__fieldManager"].startswith("pulumi-kubernetes-")
    assert server.objects["/api/v1/namespaces/shop/configmaps/thing"]["data"] == {"word": "x"}


def test_what_exists_is_not_overwritten(server: Server, resources: Resources) -> None:
    create(resources, CONFIG, config())
    with pytest.raises(Refused, match="already exists"):
        create(resources, CONFIG, config())
    assert create(resources, CONFIG, config(), preview=True) == config()


def test_a_preview_changes_nothing(server: Server, resources: Resources) -> None:
    assert "uid" in create(resources, CONFIG, config(), preview=True)["metadata"]
    unknown = config(data={"a": UNKNOWN})
    assert create(resources, CONFIG, unknown, preview=True) == unknown
    assert server.objects == {}
    assert server.methods() == ["POST"]


def test_a_kind_that_is_not_served_is_named(resources: Resources) -> None:
    urn, inputs = URN.format("example.org/v1:Widget"), {**config(), "apiVersion": "example.org/v1"}
    assert create(resources, urn, inputs, preview=True) == inputs
    resources.cancelled.set()  # else it is tried again for a while
    with pytest.raises(Refused, match="Verify that any required CRDs"):
        create(resources, urn, inputs)


def test_a_conflict_says_who_and_how_to_win(server: Server, resources: Resources) -> None:
    state = create(resources, CONFIG, config())
    update = {"timeout": 0, "preview": False}
    with pytest.raises(Conflict, match=r'"robot".*pulumi.com/patchForce'):
        resources.update(CONFIG, state, config(), config(data={"a": "1"}), **update)
    forced = config(data={"a": "1"})
    forced["metadata"] = {
        **forced["metadata"],
        "annotations": {"pulumi.com/patchForce": "true"},
    }
    resources.update(CONFIG, state, config(), forced, **update)


def test_a_job_is_awaited_and_its_failure_kept(server: Server, resources: Resources) -> None:
    def fails(obj: dict[str, Any]) -> None:
        found = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
        obj["status"] = {"conditions": [found]}

    server.on_get = fails
    with pytest.raises(InitFailed, match="BackoffLimitExceeded") as failed:
        create(resources, JOB, job())
    assert failed.value.resource_id == "shop/thing"
    assert failed.value.state["status"]["conditions"]


def test_a_wait_ends_at_its_timeout_and_when_cancelled(resources: Resources) -> None:
    with pytest.raises(InitFailed, match=r"within 0\.1 s: 0 of 1 pods"):
        create(resources, JOB, job(), timeout=0.1)
    threading.Timer(0.3, resources.cancelled.set).start()
    began = time.monotonic()
    named = {**job(), "metadata": {"name": "other", "namespace": "shop"}}
    with pytest.raises(InitFailed, match="cancelled"):
        create(resources, JOB, named)
    assert time.monotonic() - began < 2


def test_nobody_waits_where_the_annotation_says_so(resources: Resources) -> None:
    inputs = job()
    inputs["metadata"] = {**inputs["metadata"], "annotations": {"pulumi.com/skipAwait": "true"}}
    assert create(resources, JOB, inputs)["metadata"]["name"] == "thing"


def test_a_read_finds_drift_and_what_is_gone(server: Server, resources: Resources) -> None:
    inputs = config(data={"a": Secret("1")})
    state = create(resources, CONFIG, inputs)
    server.objects["/api/v1/namespaces/shop/configmaps/thing"]["data"] = {"a": "2", "b": "3"}
    found = resources.read(CONFIG, "shop/thing", state, inputs)
    assert found is not None
    assert found[1] == config(data={"a": Secret("2")})
    imported = resources.read(CONFIG, "shop/thing", {}, {})
    assert imported is not None
    assert imported[1] == config(data={"a": "2", "b": "3"})
    assert resources.read(CONFIG, "shop/none", {}, {}) is None


def test_a_delete_is_done_when_the_object_is_gone(server: Server, resources: Resources) -> None:
    state = create(resources, CONFIG, config())
    for _ in range(2):  # gone already is gone too
        resources.delete(CONFIG, "shop/thing", state, config(), timeout=0)
    assert server.objects == {}
    asked = next(each for each in server.asked if each.method == "DELETE")
    assert json.loads(asked.content)["propagationPolicy"] == "Foreground"


def test_delete_says_whether_the_dependents_come_first(
    server: Server, resources: Resources
) -> None:
    inputs = config()
    policy = {"pulumi.com/deletionPropagationPolicy": "background"}
    inputs["metadata"] = {**inputs["metadata"], "annotations": policy}
    state = create(resources, CONFIG, inputs)
    resources.delete(CONFIG, "shop/thing", state, inputs, timeout=0)
    asked = next(each for each in server.asked if each.method == "DELETE")
    assert json.loads(asked.content)["propagationPolicy"] == "Background"


def test_names_of_ones_choice_are_deleted_before_they_are_replaced(resources: Resources) -> None:
    old, new = config(data={"a": "1"}), config(data={"a": "2"})
    found = resources.diff(old, new, [])
    assert [each.spelled for each in found.replaces] == ["data.a"] and found.delete_first
    annotations = {"pulumi.com/autonamed": "true"}
    new["metadata"] = {**new["metadata"], "annotations": annotations}
    assert not resources.diff(old, new, []).delete_first
    assert resources.diff(old, old, []).changes == []


def test_files_instead_of_a_cluster(tmp_path: Path) -> None:
    told: list[str] = []
    files = Resources(
        Settings(render_to=tmp_path), lambda level, urn, text, **_: told.append(f"{level}: {text}")
    )
    inputs = {**config(), "kind": "Secret", "stringData": {"a": "b"}}
    urn = URN.format("core/v1:Secret")
    state = create(files, urn, inputs)
    (file,) = tmp_path.glob("1-manifest/*")
    assert "a: b" in file.read_text() and "warning" in told[0] and "plaintext" in told[0]
    files.delete(urn, "shop/thing", state, inputs, timeout=0)
    assert not file.exists()


@pytest.mark.parametrize(
    ("manager", "path", "left"),
    [
        ("kube-controller-manager", "spec.replicas", {}),
        ("ours", "spec.replicas", {"replicas": 2}),
        ("kube-controller-manager", "spec.paused", {"replicas": 2}),
    ],
)
def test_what_is_ignored_and_somebody_elses_is_not_sent(
    manager: str, path: str, left: dict[str, int]
) -> None:
    fields = {"f:spec": {"f:replicas": {}}}
    live = {"metadata": {"managedFields": [{"manager": manager, "fieldsV1": fields}]}}
    sent = without_others({"kind": "Deployment", "spec": {"replicas": 2}}, live, "ours", [path])
    assert sent == {"kind": "Deployment", "spec": left}
