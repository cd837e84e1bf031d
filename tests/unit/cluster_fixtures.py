"""A cluster that has what a test puts there, in the place of the one that a kubeconfig names."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx

from pulumi_mlops.targets.kubernetes.api.errors import RefusedError
from pulumi_mlops.targets.kubernetes.api.location import Where
from pulumi_mlops.targets.kubernetes.api.pods import Manifest

NAMESPACE = "team"
_STAMP = "2026-11-23T08:00:{:02}Z"


class FakeApi:
    """Answers as targets/kubernetes/api/client.py does."""

    def __init__(self) -> None:
        self.where = Where(NAMESPACE)
        self.objects: dict[str, list[Manifest]] = {}
        self.logs: dict[tuple[str, bool], str] = {}
        self.created: list[Manifest] = []
        self.deleted: list[tuple[str, str]] = []
        self.denied: set[tuple[str, str]] = set()
        self.tunnels: dict[str, str] = {}
        self.gateways: list[Manifest] | None = None
        """None where the cluster has no Gateway API."""
        self.on_create: Callable[[Manifest], None] = lambda manifest: None

    def add(self, kind: str, found: Manifest) -> Manifest:
        self.objects.setdefault(kind, []).append(found)
        return found

    def get(self, kind: str, name: str) -> Manifest | None:
        for each in self.objects.get(kind, []):
            if each["metadata"]["name"] == name:
                return {**each, "kind": kind}
        return None

    def list_objects(
        self, kind: str, labels: Mapping[str, str] | None = None, fields: str = ""
    ) -> list[Manifest]:
        wanted = (labels or {}).items()
        if fields:
            return []
        return [
            copy.deepcopy(each)
            for each in self.objects.get(kind, [])
            if wanted <= (each["metadata"].get("labels") or {}).items()
        ]

    def create(self, kind: str, manifest: Manifest) -> Manifest:
        json.dumps(manifest)
        self.created.append(manifest)
        about = manifest["metadata"]
        made = {**manifest, "metadata": {**about, "uid": about["name"]}}
        self.add(kind, made)
        self.on_create(made)
        return made

    def delete(self, kind: str, name: str) -> None:
        self.deleted.append((kind, name))
        for each in self.objects.values():
            each[:] = [one for one in each if one["metadata"]["name"] != name and not any(
                owner["uid"] == name for owner in one["metadata"].get("ownerReferences", [])
            )]  # fmt: skip

    def log(self, pod: str, container: str, lines: int, previous: bool = False) -> str:
        kept = self.logs.get((pod, previous), "").splitlines()
        return "\n".join(kept[-lines:] if lines else [])

    def follow(
        self, pod: str, container: str, query: Mapping[str, str], say: Callable[[str], None]
    ) -> Future[None]:
        for number, line in enumerate(self.logs.get((pod, False), "").splitlines()):
            say(f"{_STAMP.format(number)} {line}")
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        if path == "version":
            return httpx.Response(200, json={"gitVersion": "v1.34.4"})
        if path.endswith("/gateways"):
            if self.gateways is None:
                raise RefusedError("the cluster refused: 404 page not found", 404)
            return httpx.Response(200, json={"items": self.gateways})
        assert path.endswith("selfsubjectaccessreviews")
        asked = options["json"]["spec"]["resourceAttributes"]
        allowed = (asked["resource"], asked["verb"]) not in self.denied
        return httpx.Response(200, json={"status": {"allowed": allowed}})

    def tunnel(self, service: str, port: int, local: int | None = None) -> str:
        self.tunnels[service] = f"127.0.0.1:{local}"
        return self.tunnels[service]


def labels(name: str, component: str = "service", instance: str = "shop-prod") -> dict[str, str]:
    return {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/instance": instance,
        "app.kubernetes.io/component": component,
    }


def metadata(name: str, of: dict[str, str], **more: Any) -> dict[str, Any]:
    return {
        "name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "labels": of, "generation": 1,
        "creationTimestamp": "2026-11-23T08:00:00Z", **more,
    }  # fmt: skip


def deployment(api: FakeApi, name: str, ready: int = 1, wanted: int = 1, **of: str) -> Manifest:
    """A workload, its pods and its Service."""
    marks = labels(name, **of)
    template = {
        "metadata": {"labels": marks},
        "spec": {"containers": [{"image": f"registry.test/team/{name}:0123456789abcdef"}]},
    }
    for number in range(wanted):
        api.add("Pod", pod(f"{name}-{number}", marks, ready=number < ready))
    service(api, name, **of)
    counts = {"updatedReplicas": wanted, "replicas": wanted}
    return api.add(
        "Deployment",
        {
            "metadata": metadata(name, marks),
            "spec": {"replicas": wanted, "template": template,
                     "selector": {"matchLabels": marks}},
            "status": {"observedGeneration": 1, "readyReplicas": ready,
                       "availableReplicas": ready, **counts},
        },
    )  # fmt: skip


def service(api: FakeApi, name: str, cluster_ip: str = "10.0.0.1", **of: str) -> Manifest:
    spec = {"clusterIP": cluster_ip, "ports": [{"name": "http", "port": 8080}]}
    return api.add("Service", {"metadata": metadata(name, labels(name, **of)), "spec": spec})


def pod(name: str, marks: dict[str, str], ready: bool = True, **status: Any) -> Manifest:
    state: dict[str, Any] = {"running": {}}
    if not ready:
        state = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    container = {"name": "main", "ready": ready, "restartCount": 0, "state": state,
                 "containerID": f"containerd://{name}", **status}  # fmt: skip
    told = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": metadata(name, marks),
        "spec": {"containers": [{"name": "main"}]},
        "status": {"phase": "Running", "conditions": told, "containerStatuses": [container]},
    }


def job(api: FakeApi, name: str, run: str, *, condition: str = "Complete", code: int = 0,
        outputs: str = "", begun: int = 0, **more: Any) -> Manifest:  # fmt: skip
    """A run of a job, and its pod."""
    marks = labels(name, "job")
    ended = {"exitCode": code, "message": outputs, "reason": "Completed"}
    uid = more.pop("uid", f"uid-{run}")
    stamp = _STAMP.format(begun)
    made = pod(f"{run}-pod", {**marks, "batch.kubernetes.io/job-name": run},
               state={"terminated": ended})  # fmt: skip
    made["metadata"] |= {"ownerReferences": [{"uid": uid}], "creationTimestamp": stamp}
    api.add("Pod", made)
    finished = _STAMP.format(begun + 9)
    told = {"type": condition, "status": "True", "message": "x", "lastTransitionTime": finished}
    conditions = [told] if condition else []
    return api.add(
        "Job",
        {
            "metadata": metadata(run, marks, uid=uid, creationTimestamp=stamp, **more),
            "spec": {
                "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}},
                "template": {
                    "metadata": {
                        "labels": {**marks, "batch.kubernetes.io/controller-uid": uid,
                                   "job-name": run},
                    },
                    "spec": {"containers": [{"image": "registry.test/team/x:feed"}]},
                },
            },
            "status": {"conditions": conditions, "startTime": stamp,
                       **({"completionTime": _STAMP.format(begun + 9)} if not code else {})},
        },
    )  # fmt: skip


def made_project(folder: Path, **settings: Any) -> Path:
    """A project whose stack `prod` is on a cluster."""
    (folder / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
    told = {"namespace": NAMESPACE, "registry": "registry.test/team", **settings}
    config = {"mlops:target": "kubernetes", "mlops:kubernetes": told}
    (folder / "Pulumi.prod.yaml").write_text(json.dumps({"config": config}))
    return folder
