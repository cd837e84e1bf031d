"""A Gateway in a namespace of its own: Traefik in a pod, and the definitions of the Gateway API."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CONTROLLER = "traefik.io/gateway-controller"
PORT = 8080
_GROUP = "gateway.networking.k8s.io"


class Gateway:
    """Called `public`. Its listener `open` takes routes of every namespace, `closed` none but its
    own's."""

    def __init__(self, image: str, crds: Iterable[Path]) -> None:
        self._image, self._crds = image, list(crds)
        self.namespace = f"gateways-{uuid.uuid4().hex[:8]}"
        self._made: list[Mapping[str, Any]] = []

    def up(self) -> None:
        """Make all of it, and wait until the Gateway is programmed."""
        for each in self._crds:
            # It is too long for the annotation of a client-side apply.
            kubectl("apply", "--server-side", "--filename", str(each))
        for each in self._crds:
            kubectl("wait", "--for=condition=Established", "--filename", str(each))
        self._made = self._objects()
        kubectl("apply", "--filename", "-", stdin=json.dumps(
            {"apiVersion": "v1", "kind": "List", "items": self._made}
        ))  # fmt: skip
        here = ("--namespace", self.namespace)
        kubectl("rollout", "status", "deployment/traefik", "--timeout", "120s", *here)
        kubectl("wait", "gateway/public", "--for=condition=Programmed", "--timeout", "60s", *here)

    @property
    def address(self) -> str:
        """Where this machine reaches it."""
        found = kubectl(
            "get", "service/traefik", "--namespace", self.namespace,
            "--output", "jsonpath={.spec.clusterIP}",
        )  # fmt: skip
        return found.strip()

    def down(self) -> None:
        """Take all of it away, but the definitions: others may use them."""
        for each in reversed(self._made):
            if each["kind"] in ("ClusterRole", "ClusterRoleBinding", "GatewayClass", "Namespace"):
                name = each["metadata"]["name"]
                kubectl("delete", each["kind"], name, "--ignore-not-found", "--timeout", "120s")

    def settings(self, listener: str = "open") -> dict[str, str]:
        """`mlops:kubernetes.gateway` for one of its listeners."""
        return {
            "name": "public",
            "namespace": self.namespace,
            "section_name": listener,
            "url": f"http://*.{listener}.test:{PORT}",
        }

    def _objects(self) -> list[Mapping[str, Any]]:
        name, labels = self.namespace, {"app": "traefik"}
        here = {"namespace": name}
        return [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "traefik", **here},
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": name},
                "rules": [
                    {
                        "apiGroups": ["", "discovery.k8s.io"],
                        "resources": [
                            "namespaces", "nodes", "services", "endpointslices", "secrets",
                            "configmaps",
                        ],
                        "verbs": ["get", "list", "watch"],
                    },
                    {"apiGroups": [_GROUP], "resources": ["*"], "verbs": ["get", "list", "watch"]},
                    {
                        "apiGroups": [_GROUP],
                        "resources": ["gatewayclasses/status", "gateways/status",
                                      "httproutes/status", "backendtlspolicies/status"],
                        "verbs": ["update", "patch"],
                    },
                ],
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name,
                },
                "subjects": [{"kind": "ServiceAccount", "name": "traefik", **here}],
            },
            {
                "apiVersion": f"{_GROUP}/v1",
                "kind": "GatewayClass",
                "metadata": {"name": name},
                "spec": {"controllerName": CONTROLLER},
            },
            {
                "apiVersion": f"{_GROUP}/v1",
                "kind": "Gateway",
                "metadata": {"name": "public", **here},
                "spec": {
                    "gatewayClassName": name,
                    "listeners": [
                        {
                            "name": listener, "protocol": "HTTP", "port": PORT,
                            "hostname": f"*.{listener}.test",
                            "allowedRoutes": {"namespaces": {"from": which}},
                        }
                        for listener, which in (("open", "All"), ("closed", "Same"))
                    ],
                },
            },
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "traefik", **here},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {
                            "serviceAccountName": "traefik",
                            "containers": [
                                {
                                    "name": "traefik",
                                    "image": self._image,
                                    "imagePullPolicy": "Never",
                                    "args": [
                                        f"--entrypoints.web.address=:{PORT}",
                                        "--entrypoints.ping.address=:8081",
                                        "--ping.entrypoint=ping",
                                        "--providers.kubernetesgateway=true",
                                    ],
                                    "readinessProbe": {
                                        "httpGet": {"path": "/ping", "port": 8081},
                                        "periodSeconds": 1,
                                    },
                                }
                            ],
                        },
                    },
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "traefik", **here},
                "spec": {"selector": labels, "ports": [{"port": PORT}]},
            },
        ]  # fmt: skip


def kubectl(*command: str, stdin: str | None = None) -> str:
    """What kubectl says."""
    done = subprocess.run(
        ["kubectl", *command], input=stdin, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
