"""The API server: requests over one kept-alive client, and what kinds it knows."""

from __future__ import annotations

import json
import ssl
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx

from .kubeconfig import Connection
from .objects import name_of, namespace_of
from .wire import Object

_TIMEOUT: Final = httpx.Timeout(60, connect=5)
# Requests of one update run side by side; the engine's default is 4 a core, users raise it.
_LIMITS: Final = httpx.Limits(max_connections=64, max_keepalive_connections=32)


class ApiError(Exception):
    """The API server refused."""

    def __init__(self, code: int, reason: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details

    @property
    def namespace_missing(self) -> bool:
        """Whether the namespace of the object, not the object, was not found."""
        return self.code == 404 and self.details.get("kind") == "namespaces"


class Unreachable(Exception):
    """Nobody answers where the API server should be."""


class UnknownKind(Exception):
    """The API server does not serve this kind: its definition is not there, or not yet."""


@dataclass(frozen=True)
class Mapped:
    """How the API server serves a kind."""

    plural: str
    namespaced: bool


class Api:
    """One API server, used by many threads at once."""

    def __init__(
        self, connection: Connection, transport: httpx.BaseTransport | None = None
    ) -> None:
        headers = {"Accept": "application/json", "User-Agent": "pulumi-kubernetes-stand-in"}
        if connection.token:
            headers["Authorization"] = f"Bearer {connection.token}"
        self._client = httpx.Client(
            base_url=connection.server,
            headers=headers,
            verify=_tls(connection) if connection.server.startswith("https") else False,
            timeout=_TIMEOUT,
            limits=_LIMITS,
            transport=transport,
            trust_env=False,
        )
        self._kinds: dict[str, dict[str, Mapped]] = {}
        self._lock = threading.Lock()

    def version(self) -> str:
        """The server's version; also the question whether anybody answers."""
        return str(self._ask("GET", "/version")[0].get("gitVersion"))

    def mapped(self, api_version: str, kind: str) -> Mapped:
        """How `kind` is served."""
        known = self._kinds.get(api_version, {}).get(kind)
        if known is None:
            # One asks for all that wait; definitions made meanwhile are found by asking again.
            with self._lock:
                known = self._kinds.get(api_version, {}).get(kind)
                if known is None:
                    self._kinds[api_version] = self._discovered(api_version)
                    known = self._kinds[api_version].get(kind)
        if known is None:
            raise UnknownKind(f"the API server does not serve {api_version} {kind}")
        return known

    def get(self, obj: Mapping[str, Any]) -> Object:
        """The live object of this kind, name and namespace."""
        return self._ask("GET", self._path(obj))[0]

    def items(self, api_version: str, kind: str, namespace: str, **selectors: str) -> list[Object]:
        """The live objects of a kind in a namespace, picked by `labelSelector` and the like."""
        sought = {"apiVersion": api_version, "kind": kind, "metadata": {"namespace": namespace}}
        found = self._ask("GET", self._path(sought, whole=True), params=selectors)[0]
        return list(found.get("items") or [])

    def create(self, obj: Object, manager: str, *, dry: bool) -> tuple[Object, list[str]]:
        """The object as created, and the server's warnings."""
        params = {"fieldManager": manager, "fieldValidation": "Warn", **_dry(dry)}
        return self._ask("POST", self._path(obj, whole=True), obj, params=params)

    def apply(
        self, obj: Object, manager: str, *, force: bool, dry: bool
    ) -> tuple[Object, list[str]]:
        """The object as applied by the server, and the server's warnings."""
        params = {
            "fieldManager": manager,
            "fieldValidation": "Warn",
            "force": str(force).lower(),
            **_dry(dry),
        }
        return self._patch("apply-patch+yaml", obj, obj, params)

    def merge(
        self, obj: Mapping[str, Any], patch: Any, manager: str, *, dry: bool
    ) -> tuple[Object, list[str]]:
        """The object after a JSON merge patch."""
        return self._patch("merge-patch+json", obj, patch, {"fieldManager": manager, **_dry(dry)})

    def json_patch(self, obj: Mapping[str, Any], operations: list[Object]) -> Object:
        """The object after a JSON patch."""
        return self._patch("json-patch+json", obj, operations, {})[0]

    def replace(self, obj: Object, manager: str, *, dry: bool) -> tuple[Object, list[str]]:
        """The object put in the place of the one of its `resourceVersion`."""
        return self._ask("PUT", self._path(obj), obj, params={"fieldManager": manager, **_dry(dry)})

    def delete(self, obj: Mapping[str, Any], propagation: str) -> None:
        """Ask for the object's end; it may take a while."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        self._ask("DELETE", self._path(obj), options)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _patch(
        self, how: str, obj: Mapping[str, Any], patch: Any, params: Mapping[str, str]
    ) -> tuple[Object, list[str]]:
        return self._ask(
            "PATCH", self._path(obj), patch, params=params, content_type=f"application/{how}"
        )

    def _path(self, obj: Mapping[str, Any], *, whole: bool = False) -> str:
        api_version = str(obj["apiVersion"])
        mapped = self.mapped(api_version, str(obj["kind"]))
        path = _root(api_version)
        if mapped.namespaced:
            path += f"/namespaces/{quote(namespace_of(obj) or 'default')}"
        path += f"/{mapped.plural}"
        return path if whole else f"{path}/{quote(name_of(obj), safe='')}"

    def _discovered(self, api_version: str) -> dict[str, Mapped]:
        try:
            listed = self._ask("GET", _root(api_version))[0]
        except ApiError as error:
            if error.code == 404:
                return {}
            raise
        return {
            each["kind"]: Mapped(each["name"], bool(each["namespaced"]))
            for each in listed.get("resources", [])
            if "/" not in each["name"]
        }

    def _ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> tuple[Object, list[str]]:
        content = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": content_type}
        try:
            response = self._client.request(
                method, path, content=content, params=params, headers=headers
            )
        except httpx.HTTPError as error:
            raise Unreachable(f"{self._client.base_url}: {error}") from error
        try:
            answer = response.json()
        except ValueError:
            answer = {"message": response.text.strip()}
        if response.is_error:
            raise ApiError(
                response.status_code,
                str(answer.get("reason", "")),
                str(answer.get("message") or response.reason_phrase),
                answer.get("details") or {},
            )
        return answer, [_warning(text) for text in response.headers.get_list("warning")]


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _dry(dry: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry else {}


def _warning(header: str) -> str:
    # 299 - "unknown field \"spec.x\""
    _, _, text = header.partition('"')
    return text.removesuffix('"').replace('\\"', '"')


def _tls(connection: Connection) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=connection.authority)
    if connection.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if connection.certificate and connection.key:
        # The ssl module takes a client's key only from a file; this one is gone at once.
        with tempfile.TemporaryDirectory() as folder:
            pair = Path(folder) / "pair.pem"
            pair.touch(mode=0o600)
            pair.write_bytes(connection.certificate + b"\n" + connection.key)
            context.load_cert_chain(pair)
    return context
