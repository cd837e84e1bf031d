"""The plugin's way to a cluster's API, against a server that answers as one does."""

from __future__ import annotations

import base64
import json
import ssl
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from pulumi_mlops.plugin.errors import ResourceError, UnreachableError
from pulumi_mlops.targets.kubernetes.api import client as api_module
from pulumi_mlops.targets.kubernetes.api.client import ClusterApi
from pulumi_mlops.targets.kubernetes.api.errors import RefusedError
from pulumi_mlops.targets.kubernetes.api.location import Where

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "shared"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "cluster"))
import certificates

TOKEN = "s3cr3t-t0ken"


class Server:
    """Notes what it is asked, and answers from a table by method and path."""

    def __init__(self) -> None:
        version = {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        self.answers: dict[str, tuple[int, Any]] = {"GET /version/": (200, version)}
        self.good = ""
        self.silent, self.ended = threading.Event(), threading.Event()
        self.asked: list[tuple[str, str, str, dict[str, str]]] = []
        outer = self

        class Answers(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                text = self.rfile.read(length).decode()
                path, _, query = self.path.partition("?")
                outer.asked.append((f"{self.command} {path}", query, text, dict(self.headers)))
                missing = (404, {"message": f"{path} not found"})
                if outer.silent.is_set():
                    outer.ended.wait()
                status, body = outer.answers.get(f"{self.command} {path}", missing)
                if outer.good and self.headers["authorization"] != outer.good:
                    status, body = 401, {"message": "Unauthorized"}
                sent = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_DELETE = do_PATCH = _answer

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def asks_for_certificates(self, pki: Path) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "server.crt", pki / "server.key")
        context.verify_mode = ssl.CERT_REQUIRED
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def end(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def paths(self) -> list[str]:
        """What was asked of objects; clients look at the version by themselves."""
        return [path for path, *_ in self.asked if "/namespaces/" in path]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.end()


def kubeconfig(folder: Path, url: str) -> Path:
    def named(kind: str, value: Any) -> dict[str, Any]:
        return {f"{kind}s": [{"name": "test", kind: value}]}

    file = folder / "kubeconfig"
    file.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        **named("cluster", {"server": url}), **named("user", {"token": TOKEN}),
        **named("context", {"cluster": "test", "user": "test"}),
    }))  # fmt: skip
    return file


@pytest.fixture
def api(server: Server, tmp_path: Path) -> ClusterApi:
    return ClusterApi(Where("team", kubeconfig=str(kubeconfig(tmp_path, server.url))))


BASE = "/namespaces/team"


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Deployment", f"/apis/apps/v1{BASE}/deployments/a"),
        ("StatefulSet", f"/apis/apps/v1{BASE}/statefulsets/a"),
        ("ReplicaSet", f"/apis/apps/v1{BASE}/replicasets/a"),
        ("Job", f"/apis/batch/v1{BASE}/jobs/a"),
        ("Pod", f"/api/v1{BASE}/pods/a"),
        ("Service", f"/api/v1{BASE}/services/a"),
        ("PersistentVolumeClaim", f"/api/v1{BASE}/persistentvolumeclaims/a"),
    ],
)
def test_objects_by_kind_and_name(server: Server, api: ClusterApi, kind: str, path: str) -> None:
    server.answers[f"GET {path}"] = (200, {"kind": kind})
    assert api.get(kind, "a") == {"kind": kind}
    assert api.get(kind, "b") is None
    assert server.paths() == [f"GET {path}", f"GET {path[:-1]}b"]
    headers = {key.lower(): value for key, value in server.asked[-1][3].items()}
    assert headers["authorization"] == f"Bearer {TOKEN}"


def test_objects_by_labels_and_fields(server: Server, api: ClusterApi) -> None:
    server.answers[f"GET /api/v1{BASE}/events"] = (200, {"items": [{"a": 1}]})
    assert api.every("Event", {"x/y": "z", "v": "w"}, "involvedObject.name=a") == [{"a": 1}]
    query = server.asked[-1][1]
    assert "labelSelector=x%2Fy%3Dz%2Cv%3Dw" in query
    assert "fieldSelector=involvedObject.name%3Da" in query


def test_deleting_what_is_gone_is_no_error(server: Server, api: ClusterApi) -> None:
    server.answers[f"DELETE /apis/batch/v1{BASE}/jobs/a"] = (200, {})
    api.delete("Job", "a")
    assert json.loads(server.asked[-1][2]) == {"propagationPolicy": "Background"}
    api.delete("Job", "b")
    server.answers[f"DELETE /apis/batch/v1{BASE}/jobs/c"] = (409, {"message": "no"})
    with pytest.raises(RefusedError, match="the cluster refused: no"):
        api.delete("Job", "c")


def test_applying_is_on_the_server(server: Server, api: ClusterApi) -> None:
    server.answers[f"PATCH /apis/batch/v1{BASE}/jobs/a"] = (200, {})
    manifest = {"kind": "Job", "metadata": {"name": "a"}}
    api.apply("Job", manifest, "pulumi")
    _, query, text, headers = server.asked[-1]
    assert set(query.split("&")) == {"fieldManager=pulumi", "force=true"}
    assert json.loads(text) == manifest
    assert {key.lower(): value for key, value in headers.items()}["content-type"] == (
        "application/apply-patch+yaml"
    )


def test_logs_are_there_or_empty(server: Server, api: ClusterApi) -> None:
    server.answers[f"GET /api/v1{BASE}/pods/a/log"] = (200, "line\n")
    assert api.log("a", "main", 15) == "line\n"
    assert set(server.asked[-1][1].split("&")) == {"container=main", "tailLines=15"}
    assert api.log("a", "main", 15, previous=True) == "line\n"
    assert "previous=true" in server.asked[-1][1]
    assert api.log("b", "main", 15) == ""


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (403, {"message": 'User "me" cannot get jobs'},
         'the cluster forbids it: User "me" cannot get jobs: ask for a role that allows it'),
        (403, {"message": 'User "me" cannot get resource "jobs" in the namespace "team"'},
         'the cluster forbids it: User "me" cannot get resource "jobs" in the namespace "team": '
         "ask for the role `admin` in namespace team (`mlops doctor` lists every right that is "
         "missing)"),
        (403, {"message": "exceeded quota: quota"},
         "the cluster forbids it: exceeded quota: quota"),
        (500, {"message": "etcd is away"}, "the cluster refused: etcd is away"),
        (502, "<html>bad gateway</html>", "the cluster refused: <html>bad gateway</html>"),
        (503, "", "the cluster refused: Service Unavailable"),
        (500, "[]", "the cluster refused: []"),
    ],
)  # fmt: skip
def test_refusals_carry_the_clusters_words(
    server: Server, api: ClusterApi, status: int, body: Any, told: str
) -> None:
    server.answers[f"GET /apis/batch/v1{BASE}/jobs/a"] = (status, body)
    with pytest.raises(RefusedError) as refusal:
        api.get("Job", "a")
    assert str(refusal.value) == told
    assert refusal.value.status == status


def test_a_login_that_does_not_count(server: Server, api: ClusterApi) -> None:
    server.answers[f"GET /apis/batch/v1{BASE}/jobs/a"] = (401, {"message": "Unauthorized"})
    with pytest.raises(ResourceError) as refusal:
        api.get("Job", "a")
    assert TOKEN not in str(refusal.value)
    assert "log in" in str(refusal.value)
    server.answers["GET /version/"] = (401, {"message": "Unauthorized"})
    with pytest.raises(
        RefusedError, match="does not accept this login: Unauthorized: log in again"
    ):
        ClusterApi(api.where).get("Job", "a")


def test_a_login_that_has_run_out_is_renewed(
    server: Server, api: ClusterApi, tmp_path: Path
) -> None:
    """A wait may take longer than a token lasts."""
    path = f"GET /apis/batch/v1{BASE}/jobs/a"
    server.answers[path] = (200, {})
    api.get("Job", "a")
    server.good = "Bearer another"
    with pytest.raises(RefusedError):
        api.get("Job", "a")
    file = tmp_path / "kubeconfig"
    file.write_text(file.read_text().replace(TOKEN, "another"))
    assert api.get("Job", "a") == {}


def data(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """Certificates of a cluster that asks its clients for one."""
    folder = tmp_path / "pki"
    folder.mkdir()
    authority = certificates.authority(folder, "ca", "cluster")
    certificates.signed(folder, "server", authority, "server", names=["127.0.0.1"])
    certificates.signed(folder, "client", authority, "client")
    return folder


@pytest.fixture
def secure(server: Server, pki: Path) -> Server:
    server.asks_for_certificates(pki)
    return server


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def with_certificates(pki: Path, file: Path) -> None:
    found = json.loads(file.read_text())
    found["clusters"][0]["cluster"]["certificate-authority-data"] = data(pki / "ca.crt")
    found["users"][0]["user"] |= {
        "client-certificate-data": data(pki / "client.crt"),
        "client-key-data": data(pki / "client.key"),
    }
    file.write_text(json.dumps(found))


@pytest.fixture
def holding(secure: Server, pki: Path, tmp_path: Path) -> Path:
    """A kubeconfig that has the certificates, of a cluster that answers."""
    file = kubeconfig(tmp_path, secure.url)
    with_certificates(pki, file)
    secure.answers[f"GET /apis/batch/v1{BASE}/jobs/a"] = (200, {})
    return file


def test_no_private_key_stays_on_the_disk(secure: Server, holding: Path, temporary: Path) -> None:
    api = ClusterApi(Where("team", kubeconfig=str(holding)))
    assert api.get("Job", "a") == {}
    assert list(temporary.iterdir()) == []
    # Nor where a login has run out and another one is made, or is refused.
    secure.good = "Bearer another"
    with pytest.raises(RefusedError):
        api.get("Job", "a")
    assert list(temporary.iterdir()) == []
    holding.write_text(holding.read_text().replace(TOKEN, "another"))
    assert api.get("Job", "a") == {}
    assert list(temporary.iterdir()) == []


def test_many_first_requests_share_a_login(holding: Path, temporary: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        for _ in range(5):
            api = ClusterApi(Where("team", kubeconfig=str(holding)))
            assert list(pool.map(lambda _, api=api: api.get("Job", "a"), range(16))) == [{}] * 16
    assert list(temporary.iterdir()) == []


def test_a_cluster_that_is_silent_is_asked_once_for_all(
    server: Server, api: ClusterApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one after the other, each until its time is over."""
    monkeypatch.setattr(api_module, "_SECONDS", 2)
    server.silent.set()
    together = threading.Barrier(8)

    def ask(_: int) -> str:
        together.wait()
        with pytest.raises(UnreachableError) as refusal:
            api.get("Job", "a")
        return str(refusal.value)

    with ThreadPoolExecutor(8) as pool:
        told = set(pool.map(ask, range(8)))
    assert len(told) == 1
    assert [path for path, *_ in server.asked] == ["GET /version/"]


def test_no_private_key_stays_where_no_cluster_answers(
    server: Server, pki: Path, tmp_path: Path, temporary: Path
) -> None:
    file = kubeconfig(tmp_path, "https://127.0.0.1:9")
    with_certificates(pki, file)
    unreachable(Where("team", kubeconfig=str(file)))
    assert list(temporary.iterdir()) == []


def test_the_files_that_a_kubeconfig_names_are_kept(
    secure: Server, pki: Path, tmp_path: Path
) -> None:
    file = kubeconfig(tmp_path, secure.url)
    found = json.loads(file.read_text())
    found["clusters"][0]["cluster"]["certificate-authority"] = str(pki / "ca.crt")
    found["users"][0]["user"] |= {
        "client-certificate": str(pki / "client.crt"),
        "client-key": "pki/client.key",
    }
    file.write_text(json.dumps(found))
    before = sorted(pki.iterdir())
    secure.answers[f"GET /apis/batch/v1{BASE}/jobs/a"] = (200, {})
    api = ClusterApi(Where("team", kubeconfig=str(file)))
    assert api.get("Job", "a") == {}
    secure.good = "Bearer another"
    with pytest.raises(RefusedError):
        api.get("Job", "a")
    assert sorted(pki.iterdir()) == before


@pytest.mark.parametrize("text", ["<html>", "[]", "null"])
def test_what_is_no_kubernetes(server: Server, api: ClusterApi, text: str) -> None:
    server.answers[f"GET /apis/batch/v1{BASE}/jobs/a"] = (200, text)
    with pytest.raises(
        UnreachableError, match="the server is not a Kubernetes API: check the kubec"
    ):
        api.get("Job", "a")


def test_an_answer_that_never_comes_is_not_waited_for(
    server: Server, api: ClusterApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.get("Job", "b")
    monkeypatch.setattr(api_module, "_SECONDS", 0.05)
    monkeypatch.setattr(api_module, "_PATIENCE", httpx.Timeout(0.05, connect=10))
    server.silent.set()
    with pytest.raises(UnreachableError, match=r"no cluster answers \(no answer within 0.05 s\)"):
        api.get("Job", "a")


def unreachable(where: Where) -> str:
    with pytest.raises(UnreachableError) as refusal:
        ClusterApi(where).get("Job", "a")
    told = str(refusal.value)
    assert told.startswith(("no cluster answers (", "the kubeconfig cannot be used ("))
    assert "(mlops:kubernetes) with `kubectl cluster-info`" in told
    assert TOKEN not in told
    return told


def test_nobody_answers(server: Server, tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, "http://127.0.0.1:9")
    assert "its current context" in unreachable(Where("team", kubeconfig=str(file)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "clusters: 1",
        "\x00",
        f"users: [{{name: a, user: {{token: {TOKEN}}}}}]",
        f"token: {TOKEN}: {TOKEN}",
    ],
)
def test_a_kubeconfig_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(text)
    unreachable(Where("team", kubeconfig=str(tmp_path / "kubeconfig")))


def test_a_kubeconfig_and_a_context_that_are_not_there(server: Server, tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    with pytest.raises(UnreachableError, match=f"^there is no kubeconfig {missing}: correct mlops"):
        ClusterApi(Where("team", kubeconfig=missing)).get("Job", "a")
    file = kubeconfig(tmp_path, server.url)
    assert "context other" in unreachable(Where("team", "other", str(file)))


def test_the_variable_kubeconfig_that_names_no_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(tmp_path / "none")
    monkeypatch.setenv("KUBECONFIG", missing)
    with pytest.raises(UnreachableError, match=f"^there is no kubeconfig {missing}: .* KUBECONFIG"):
        ClusterApi(Where("team")).get("Job", "a")
    # One of several is enough.
    monkeypatch.setenv("KUBECONFIG", f"{missing}:{kubeconfig(tmp_path, server.url)}")
    assert ClusterApi(Where("team")).get("Job", "a") is None


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({}, "there is no Service tool in team"),
        ({"services/tool": {"spec": {"selector": {"a": "b"}}}, "pods": {"items": []}},
         "no pod of Service tool is ready"),
    ],
)  # fmt: skip
def test_a_tunnel_needs_a_ready_pod(
    server: Server, api: ClusterApi, answers: Any, told: str
) -> None:
    for path, answer in answers.items():
        server.answers[f"GET /api/v1{BASE}/{path}"] = (200, answer)
    with pytest.raises(UnreachableError, match=told):
        api.tunnel("tool", 8080)
