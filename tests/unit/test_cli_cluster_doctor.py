"""`mlops doctor` of a stack on a cluster, and what registries are asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.cli.checks import Finding
from pulumi_mlops.cli.selection import Stack, find_stack
from pulumi_mlops.images import registry
from pulumi_mlops.plugin.errors import UnreachableError
from pulumi_mlops.targets.kubernetes.operations import checks, inventory

from .cluster_fixtures import FakeApi, made_project


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    monkeypatch.chdir(tmp_path)
    made = FakeApi()
    monkeypatch.setattr(inventory, "ClusterApi", lambda where: made)
    return made


def _stack(**settings: Any) -> Stack:
    stack = find_stack(made_project(Path.cwd(), **settings), "prod")
    return stack


def _storage(api: FakeApi, name: str, default: bool) -> None:
    key = "storageclass.kubernetes.io/is-default-class"
    annotations = {key: "true"} if default else {}
    api.add("StorageClass", {"metadata": {"name": name, "annotations": annotations}})


def _found(api: FakeApi, **settings: Any) -> dict[str, Finding]:
    return {check.name: check for check in checks.cluster(_stack(**settings))}


def test_a_cluster_that_has_everything(api: FakeApi) -> None:
    api.add("Namespace", {"metadata": {"name": "team", "labels": {
        "pod-security.kubernetes.io/enforce": "restricted"}}})  # fmt: skip
    _storage(api, "slow", False)
    _storage(api, "fast", True)
    found = _found(api)
    assert {check.verdict for check in found.values()} == {"ok"}
    assert "v1.34.4" in found["cluster"].message
    assert "restricted" in found["namespace"].message
    assert "fast" in found["storage"].message


def test_what_is_not_allowed_is_named(api: FakeApi) -> None:
    _storage(api, "fast", True)
    api.denied = {("secrets", "create"), ("deployments", "patch"), ("namespaces", "create")}
    found = _found(api)
    assert found["rights"].message.endswith("create secrets; patch deployments.apps")
    assert "create_namespace to false" in found["namespace"].fix


def test_a_namespace_of_another_stack(api: FakeApi) -> None:
    owner = api.add("ConfigMap", {"metadata": {"name": "mlops-owner"},
                                  "data": {"owner": "shop/prod", "key": "k"}})  # fmt: skip
    assert "owner" not in _found(api)
    owner["data"]["owner"] = "shop/other"
    found = _found(api)["owner"]
    assert (found.verdict, found.message) == ("wrong", "team belongs to another stack, shop/other")
    assert "mlops:kubernetes.namespace" in found.fix


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no default among the storage classes"),
        ({"storage_class": "gone"}, "no storage class gone: the cluster has slow"),
    ],
)
def test_storage_that_is_missing(api: FakeApi, settings: dict[str, str], message: str) -> None:
    _storage(api, "slow", False)
    found = _found(api, **settings)["storage"]
    assert found.verdict == "wrong"
    assert message in found.message


def test_a_gateway_that_is_asked_for(api: FakeApi) -> None:
    asked = {"namespace": "gateways", "name": "public", "url": "https://*.example.com"}
    told = _found(api, gateway=asked)["gateway"]
    assert told.verdict == "wrong"
    assert told.message == "the cluster has no Gateway API"
    assert "gateway" not in _found(api)
    api.gateways = []
    assert "gateway" not in _found(api)
    assert "the cluster has none" in _found(api, gateway=asked)["gateway"].message
    api.gateways = [{"metadata": {"namespace": "gateways", "name": "public"}}]
    assert _found(api, gateway=asked)["gateway"].verdict == "ok"
    found = _found(api)["gateway"]
    assert found.verdict == "ok"
    assert "the cluster has gateways/public: set mlops:kubernetes.gateway" in found.message
    other = _found(api, gateway={**asked, "name": "internal"})["gateway"]
    assert (other.verdict, other.fix) == ("wrong", "correct mlops:kubernetes.gateway")
    assert "there is no Gateway gateways/internal: the cluster has gateways/public" in other.message


def test_routes_of_a_gateway_are_a_right_of_their_own(api: FakeApi) -> None:
    api.denied.add(("httproutes", "create"))
    assert _found(api)["rights"].verdict == "ok"
    told = _found(api, gateway={"namespace": "a", "name": "b"})["rights"]
    assert "create httproutes.gateway.networking.k8s.io" in told.message


def test_a_cluster_that_does_not_answer_is_one_finding(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def request(*_: object, **__: object) -> None:
        raise UnreachableError("no cluster answers")

    monkeypatch.setattr(api, "request", request)
    (found,) = checks.cluster(_stack())
    assert (found.verdict, "KUBECONFIG" in found.fix) == ("wrong", True)


def test_who_renders_needs_no_cluster_and_no_rights(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.denied = {("secrets", "create")}
    assert set(_found(api, render_to="manifests")) == {"cluster"}

    def request(*_: object, **__: object) -> None:
        raise UnreachableError("no cluster answers")

    monkeypatch.setattr(api, "request", request)
    (found,) = checks.cluster(_stack(render_to="manifests"))
    assert found.verdict == "warn"
    assert found.message == (
        "no cluster answers; updates do not need it because mlops:kubernetes.render_to is set"
    )
    assert found.fix.startswith("for status, logs and connect, correct KUBECONFIG")


def test_where_the_plugin_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION", raising=False)
    (found,) = checks.plugin(tmp_path)
    assert found.verdict == "warn"
    assert "pulumi plugin install resource kubernetes" in found.fix
    monkeypatch.setenv("PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION", "true")
    (found,) = checks.plugin(tmp_path)
    assert found.verdict == "wrong"
    (tmp_path / "home" / "plugins" / "resource-kubernetes-v4.34.2").mkdir(parents=True)
    assert checks.plugin(tmp_path)[0].message.startswith("v4.34.2")


def _image(folder: Path, name: str) -> None:
    record = {"name": name, "reference": f"127.0.0.1:1/team/{name}:1", "version": "1",
              "build_args": {}, "network": None}  # fmt: skip
    (folder / ".mlops" / "prod" / "images" / name / "1").mkdir(parents=True)
    (folder / ".mlops" / "prod" / "images" / name / "image.json").write_text(json.dumps(record))


def test_images_that_the_registry_has_not(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "gone"):
        _image(tmp_path, name)
    monkeypatch.setattr(registry, "answers", lambda host: "")
    monkeypatch.setattr(registry, "has", lambda reference: "here" in reference)
    (found,) = checks.images(_stack())
    assert (found.verdict, found.message) == (
        "wrong",
        "registry.test answers, but does not have gone",
    )
    assert found.fix == "mlops images build --push --stack prod"
    (found,) = checks.images(_stack(registry="registry.example.com/team"))
    assert "placeholder" in found.message


REGISTRY = """
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        port = self.server.server_address[1]
        if self.path.startswith("/token"):
            body = b'{"token": "t"}'
            self.send_response(200)
        elif self.headers["authorization"] != "Bearer t":
            body = b""
            self.send_response(401)
            realm = f'Bearer realm="http://127.0.0.1:{port}/token",service="x"'
            self.send_header("www-authenticate", realm)
        else:
            body = b""
            self.send_response(200 if self.path == "/v2/" or "there" in self.path else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_HEAD = do_GET
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def test_a_registry_is_asked_by_its_own_protocol() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", REGISTRY], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        host = f"127.0.0.1:{server.stdout.readline().strip()}"
        try:
            assert registry.answers(host) == ""
            assert registry.has(f"{host}/team/there:1") is True
            assert registry.has(f"{host}/team/x@sha256:{'0' * 64}") is False
        finally:
            server.kill()
    assert registry.has(f"{host}/team/there:1") is None
    assert registry.answers(host) != ""
    assert [registry.host_of(text) for text in ("localhost/a", "a/b:1", "r.test/a")] == [
        "localhost", "docker.io", "r.test",
    ]  # fmt: skip
