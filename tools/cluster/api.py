"""A client of the cluster's API server with the administrator's certificate."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from place import Addresses, Place
from progress import ToolError


class Api:
    """A client of the API server. Methods return None if it does not answer."""

    def __init__(self, place: Place, addresses: Addresses) -> None:
        self.place = place
        self.server = addresses.server
        context = ssl.create_default_context(cafile=str(place.pki / "ca.crt"))
        context.load_cert_chain(place.pki / "admin.crt", place.pki / "admin.key")
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def text(self, path: str) -> str | None:
        """The response to a GET request of `path`."""
        try:
            with self.opener.open(self.server + path, timeout=5) as answer:
                return bytes(answer.read()).decode()
        except (OSError, urllib.error.URLError):
            return None

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at `path`."""
        text = self.text(path)
        parsed: dict[str, Any] | None = json.loads(text) if text else None
        return parsed

    def ready(self) -> bool:
        return self.text("/readyz") == "ok"

    def node_ready(self, name: str) -> bool:
        node = self.get(f"/api/v1/nodes/{name}") or {}
        conditions = node.get("status", {}).get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def deployment_ready(self, namespace: str, name: str) -> bool:
        deployment = self.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}") or {}
        status = deployment.get("status", {})
        current = deployment.get("metadata", {}).get("generation") == status.get(
            "observedGeneration"
        )
        return bool(deployment) and current and status.get("readyReplicas", 0) > 0

    def apply(self, kubectl: Path, manifest: str) -> None:
        """Apply a manifest of the cluster's own objects."""
        done = subprocess.run(
            [
                *(str(kubectl), "--kubeconfig", str(self.place.kubeconfig), "apply"),
                *("--server-side", "--force-conflicts", "--field-manager=pulumi-mlops", "-f", "-"),
            ],
            input=manifest,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.place.folder)},
        )
        if done.returncode != 0:
            raise ToolError(f"the cluster's own objects cannot be applied: {done.stderr.strip()}")
