"""What a cluster's API tells a proxy: a traffic table, and the ready pods of each Service.

Source: Kubernetes API concepts, "Efficient detection of changes" (kubernetes.io).
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_WATCH_SECONDS = 300
_RETRY_SECONDS = 1.0

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One line of the traffic table."""

    service: str
    port: int
    weight: int
    check_path: str

    def __post_init__(self) -> None:
        kinds = {"service": str, "port": int, "weight": int, "check_path": str}
        for name, kind in kinds.items():
            if type(getattr(self, name)) is not kind:
                raise ValueError(f"{name} is of another kind")
        if not 0 <= self.weight <= 100:
            raise ValueError(f"a weight of {self.weight}")


def table_of(config_map: Manifest) -> dict[str, Entry]:
    """The traffic table in a ConfigMap: an entry a version. Raises ValueError, TypeError."""
    table = {
        key: Entry(**json.loads(text))
        for key, text in sorted((config_map.get("data") or {}).items())
    }
    if not any(entry.weight for entry in table.values()):
        raise ValueError("no version gets requests")
    return table


def server_addresses(slices: Mapping[str, Manifest]) -> dict[str, frozenset[str]]:
    """The addresses of each Service's ready pods.

    Where none is ready, all that are not about to end: HAProxy checks them itself, and a kubelet
    that was restarted calls every pod of its node unready for a moment.
    """
    ready: dict[str, set[str]] = {}
    there: dict[str, set[str]] = {}
    for each in slices.values():
        service = each["metadata"].get("labels", {}).get("kubernetes.io/service-name", "")
        for endpoint in each.get("endpoints") or []:
            conditions = endpoint.get("conditions", {})
            if conditions.get("ready", True):
                ready.setdefault(service, set()).update(endpoint["addresses"])
            if not conditions.get("terminating"):
                there.setdefault(service, set()).update(endpoint["addresses"])
    return {
        service: frozenset(ready.get(service) or there[service]) for service in {**ready, **there}
    }


class Cluster:
    """The API of the cluster that this pod runs in, with the pod's own service account."""

    def __init__(self, url: str, account: Path = ACCOUNT) -> None:
        self._account = account
        self._client = httpx.Client(
            base_url=url,
            verify=ssl.create_default_context(cafile=account / "ca.crt"),
            timeout=httpx.Timeout(30, read=_WATCH_SECONDS + 30),
            trust_env=False,
        )

    def follow(self, path: str, query: Mapping[str, str], take: Callable[..., None]) -> None:
        """Call `take(objects by name)` with all objects, and again whenever one changes; for ever.

        While the API does not answer, what it said last goes on to count.
        """
        pause = threading.Event()
        while True:
            try:
                self._follow_once(path, query, take)
            except (httpx.HTTPError, OSError, ValueError, KeyError) as error:
                print(f"the cluster's API: {error or type(error).__name__}", flush=True)
                pause.wait(_RETRY_SECONDS)

    def _follow_once(self, path: str, query: Mapping[str, str], take: Callable[..., None]) -> None:
        answer = self._client.get(path, params=dict(query), headers=self._headers())
        answer.raise_for_status()
        listed = answer.json()
        objects = {each["metadata"]["name"]: each for each in listed["items"] or []}
        take(dict(objects))
        version = listed["metadata"]["resourceVersion"]
        for event in self._events(path, {**query, "resourceVersion": version}):
            if event["type"] == "ERROR":  # the version is too old: list again
                return
            name = event["object"]["metadata"]["name"]
            if event["type"] == "DELETED":
                objects.pop(name, None)
            elif event["type"] in ("ADDED", "MODIFIED"):
                objects[name] = event["object"]
            take(dict(objects))

    def _events(self, path: str, query: Mapping[str, str]) -> Iterator[Manifest]:
        params = {**query, "watch": "1", "timeoutSeconds": str(_WATCH_SECONDS)}
        with self._client.stream("GET", path, params=params, headers=self._headers()) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if line:
                    yield json.loads(line)

    def _headers(self) -> dict[str, str]:
        # Read each time: the cluster renews it.
        return {"authorization": f"Bearer {(self._account / 'token').read_text()}"}
