"""Watches of the Kubernetes API: the traffic table, and the ready pods of each Service.

Source: Kubernetes API concepts, "Efficient detection of changes" (kubernetes.io).
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_WATCH_SECONDS = 300
_RETRY_SECONDS = 1.0
_MAX_RETRY_SECONDS = 30.0

Manifest = dict[str, Any]


@dataclass(frozen=True)
class TableEntry:
    """One model version in the traffic table."""

    service: str
    port: int
    weight: int
    check_path: str

    def __post_init__(self) -> None:
        kinds = {"service": str, "port": int, "weight": int, "check_path": str}
        for name, kind in kinds.items():
            if type(getattr(self, name)) is not kind:
                raise ValueError(f"{name} must be of type {kind.__name__}")
        if not 0 <= self.weight <= 100:
            raise ValueError(f"weight {self.weight} is not between 0 and 100")


def read_table(config_map: Manifest) -> dict[str, TableEntry]:
    """The traffic table in a ConfigMap, by model version. Raises ValueError or TypeError."""
    table = {
        key: TableEntry(**json.loads(text))
        for key, text in sorted((config_map.get("data") or {}).items())
    }
    if not any(entry.weight for entry in table.values()):
        raise ValueError("all weights are 0")
    return table


def server_addresses(slices: Mapping[str, Manifest]) -> dict[str, frozenset[str]]:
    """The addresses of each Service's ready pods.

    If no pod of a Service is ready, all its pods that do not terminate: HAProxy checks them itself,
    and a kubelet reports all pods of its node as not ready for a moment after its own restart.
    """
    ready: dict[str, set[str]] = {}
    running: dict[str, set[str]] = {}
    for endpoint_slice in slices.values():
        labels = endpoint_slice["metadata"].get("labels", {})
        service = labels.get("kubernetes.io/service-name", "")
        for endpoint in endpoint_slice.get("endpoints") or []:
            conditions = endpoint.get("conditions", {})
            if conditions.get("ready", True):
                ready.setdefault(service, set()).update(endpoint["addresses"])
            if not conditions.get("terminating"):
                running.setdefault(service, set()).update(endpoint["addresses"])
    return {
        service: frozenset(ready.get(service) or running[service])
        for service in {**ready, **running}
    }


class WatchEnded(Exception):
    """The API server ended a watch with an ERROR event; the text is its reason."""


class InClusterApi:
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
        """Call `take(objects by name)` with all objects, and again after each change; never ends.

        After an error the objects are listed again. The pause before it doubles with each error in
        a row, from 1 s to 30 s. An event other than ERROR ends the row.
        """
        pause = threading.Event()
        delay = _RETRY_SECONDS

        def progress() -> None:
            nonlocal delay
            delay = _RETRY_SECONDS

        while True:
            try:
                started = time.monotonic()
                self._follow_once(path, query, take, progress)
                if time.monotonic() - started < _RETRY_SECONDS:
                    raise WatchEnded("the watch ended at once")
                progress()  # the API server ends each watch after _WATCH_SECONDS
            except (httpx.HTTPError, OSError, ValueError, KeyError, WatchEnded) as error:
                reason = str(error) or type(error).__name__
                print(f"the cluster's API: {reason}; list again in {delay:g} s", flush=True)
                pause.wait(delay)
                delay = min(2 * delay, _MAX_RETRY_SECONDS)

    def _follow_once(
        self,
        path: str,
        query: Mapping[str, str],
        take: Callable[..., None],
        progress: Callable[[], None],
    ) -> None:
        response = self._client.get(path, params=dict(query), headers=self._headers())
        response.raise_for_status()
        listed = response.json()
        objects = {each["metadata"]["name"]: each for each in listed["items"] or []}
        take(dict(objects))
        version = listed["metadata"]["resourceVersion"]
        for event in self._events(path, {**query, "resourceVersion": version}):
            if event["type"] == "ERROR":  # most often 410: the version is too old
                raise WatchEnded(event["object"].get("message") or "the watch ended with an error")
            name = event["object"]["metadata"]["name"]
            if event["type"] == "DELETED":
                objects.pop(name, None)
            elif event["type"] in ("ADDED", "MODIFIED"):
                objects[name] = event["object"]
            take(dict(objects))
            progress()

    def _events(self, path: str, query: Mapping[str, str]) -> Iterator[Manifest]:
        params = {**query, "watch": "1", "timeoutSeconds": str(_WATCH_SECONDS)}
        with self._client.stream("GET", path, params=params, headers=self._headers()) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                if line:
                    yield json.loads(line)

    def _headers(self) -> dict[str, str]:
        # The cluster renews the token, so it is read for each request.
        return {"authorization": f"Bearer {(self._account / 'token').read_text()}"}
