"""A Kubernetes API server, for previews alone: it has the objects of a recorded state.

A preview of the real engine starts the real plugins, which talk HTTP; the fake of
tests/unit/cluster_fixtures.py lives in one process. This one answers discovery, reads and dry runs,
and refuses every change.
"""

from __future__ import annotations

import base64
import copy
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

SECRET = "4dabf18193072939515e22adb298388d"
"""The key by which Pulumi tells a secret from other objects."""
VERSION = "v1.34.0"
_KINDS = {
    "v1": {
        "ConfigMap": "configmaps", "Event": "events", "LimitRange": "limitranges",
        "Namespace": "namespaces", "Node": "nodes",
        "PersistentVolumeClaim": "persistentvolumeclaims", "Pod": "pods",
        "ResourceQuota": "resourcequotas", "Secret": "secrets", "Service": "services",
        "ServiceAccount": "serviceaccounts",
    },
    "apps/v1": {"Deployment": "deployments", "ReplicaSet": "replicasets",
                "StatefulSet": "statefulsets"},
    "autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "batch/v1": {"CronJob": "cronjobs", "Job": "jobs"},
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "rbac.authorization.k8s.io/v1": {"Role": "roles", "RoleBinding": "rolebindings"},
    "storage.k8s.io/v1": {"StorageClass": "storageclasses"},
}  # fmt: skip
_OF_THE_CLUSTER = {"Namespace", "Node", "StorageClass"}
Object = dict[str, Any]


def objects_of(resources: Iterable[Mapping[str, Any]], owner: str) -> list[Object]:
    """The cluster's objects when the state was recorded; `owner` is the stack that has them."""
    found: list[Object] = [
        _object("v1", "Namespace", "kube-system", uid="recorded-cluster"),
        _authority("kube-system"),
    ]
    for resource in resources:
        outputs = plain(resource.get("outputs") or {})
        if resource["type"] == "kubernetes:core/v1:Namespace":
            found.append(_authority(outputs["metadata"]["name"]))
        if resource["type"].startswith("kubernetes:"):
            found.append({key: each for key, each in outputs.items() if key[:2] != "__"})
        elif resource["type"] == "mlops:kubernetes:NamespaceOwner":
            data = {"key": outputs["key"], "owner": owner}
            found.append(_object("v1", "ConfigMap", "mlops-owner", outputs["namespace"], data=data))
        elif resource["type"] == "mlops:kubernetes:ExistingSecret":
            data = {outputs["key"]: base64.b64encode(outputs["value"].encode()).decode()}
            place = outputs["name"], outputs["namespace"]
            found.append(_object("v1", "Secret", *place, data=data))
    return found


def plain(value: Any) -> Any:
    """A value of a state without the marks of secrets."""
    if isinstance(value, dict):
        if SECRET in value:
            return plain(json.loads(value["plaintext"]))
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


class ApiServer:
    """The server, at `url`; `refused` has what was to be changed."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self.refused: list[str] = []
        self._objects = {path_of(each): each for each in objects}
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                status, content, kind = served.answer(self.command, self.path, body)
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, format: str, *args: object) -> None:
                """Not in the output of tests."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[ApiServer]:
        """Answer while the context is open."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def write_kubeconfig(self, file: Path) -> None:
        """A kubeconfig that leads here."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "recorded",
            "contexts": [{"name": "recorded", "context": {"cluster": "recorded", "user": "me"}}],
            "clusters": [{"name": "recorded", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": "none"}}],
        }
        file.write_text(yaml.safe_dump(config))

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, bytes, str]:
        """Status, content and its type."""
        path, query = unquote(urlsplit(target).path), parse_qs(urlsplit(target).query)
        if path == "/openapi/v2":
            # An empty protobuf document: no kind has a schema, so that none is checked by one.
            return 200, b"", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
        status, content = self._json(method, path.rstrip("/"), query, body)
        return status, json.dumps(content).encode(), "application/json"

    def _json(
        self, method: str, path: str, query: Mapping[str, list[str]], body: bytes
    ) -> tuple[int, Any]:
        if method == "GET":
            if (found := discovery(path)) is not None:
                return 200, found
            if path in self._objects:
                return 200, self._objects[path]
            return self._list(path, query.get("labelSelector", [""])[0])
        if path.endswith("/selfsubjectaccessreviews"):
            return 201, {"status": {"allowed": True}}
        if query.get("dryRun") != ["All"]:
            self.refused.append(f"{method} {path}")
            return 405, _status(405, "MethodNotAllowed", "this API server is for previews")
        sent = yaml.safe_load(body)
        if method == "POST":
            path = f"{path}/{sent['metadata']['name']}"
        return 200, merged(self._objects.get(path), sent)

    def _list(self, path: str, selector: str) -> tuple[int, Any]:
        plurals = {plural for kinds in _KINDS.values() for plural in kinds.values()}
        if path.rpartition("/")[2] not in plurals:
            return 404, _status(404, "NotFound", f"there is no {path}")
        wanted = dict(each.partition("=")[::2] for each in selector.split(",") if each)
        items = [
            each
            for place, each in self._objects.items()
            if place.rpartition("/")[0] == path
            and wanted.items() <= (each["metadata"].get("labels") or {}).items()
        ]
        return 200, {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}


def discovery(path: str) -> Any:
    """What the server says of the kinds that it has; None for other paths."""
    if path == "/version":
        return {"major": "1", "minor": "34", "gitVersion": VERSION}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = []
        for group_version in (each for each in _KINDS if "/" in each):
            group, _, version = group_version.partition("/")
            named = {"groupVersion": group_version, "version": version}
            groups.append({"name": group, "versions": [named], "preferredVersion": named})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    kinds = _KINDS.get(path.removeprefix("/apis/").removeprefix("/api/"))
    if kinds is None:
        return None
    resources = [
        {
            "name": plural, "singularName": kind.lower(), "kind": kind,
            "namespaced": kind not in _OF_THE_CLUSTER,
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
        }
        for kind, plural in kinds.items()
    ]  # fmt: skip
    group_version = path.removeprefix("/apis/").removeprefix("/api/")
    return {"kind": "APIResourceList", "groupVersion": group_version, "resources": resources}


def path_of(found: Mapping[str, Any]) -> str:
    """Where an object is served."""
    version, kind, about = found["apiVersion"], found["kind"], found["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if kind not in _OF_THE_CLUSTER:
        root += f"/namespaces/{about['namespace']}"
    return f"{root}/{_KINDS[version][kind]}/{about['name']}"


def merged(live: Object | None, sent: Object) -> Object:
    """The object as an apply would make it: near enough to server-side apply for a dry run."""
    if live is None:
        found = copy.deepcopy(sent)
        found["metadata"].setdefault("uid", "made-by-a-dry-run")
        return found
    found = dict(_merge(live, sent))
    if isinstance(texts := found.pop("stringData", None), dict):
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        found["data"] = {**(found.get("data") or {}), **encoded}
    if "generation" in found["metadata"] and found.get("spec") != live.get("spec"):
        found["metadata"]["generation"] += 1
    return found


def _merge(live: Any, sent: Any) -> Any:
    if isinstance(live, dict) and isinstance(sent, dict):
        return {**copy.deepcopy(live), **{key: _merge(live.get(key), sent[key]) for key in sent}}
    if isinstance(live, list) and isinstance(sent, list):
        named = {each["name"]: each for each in live if isinstance(each, dict) and "name" in each}
        return [_merge(named.get(each.get("name")) if isinstance(each, dict) else None, each)
                for each in sent]  # fmt: skip
    return copy.deepcopy(sent)


def _authority(namespace: str) -> Object:
    """Every namespace has the certificates of the cluster."""
    return _object("v1", "ConfigMap", "kube-root-ca.crt", namespace, data={"ca.crt": "recorded"})


def _object(version: str, kind: str, name: str, namespace: str = "", **parts: Any) -> Object:
    uid = parts.pop("uid", f"uid-{name}")
    about = {"name": name, "uid": uid, "resourceVersion": "1",
             **({"namespace": namespace} if namespace else {})}  # fmt: skip
    return {"apiVersion": version, "kind": kind, "metadata": about, **parts}


def _status(code: int, reason: str, message: str) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "reason": reason, "message": message}  # fmt: skip
