"""A thread-safe client of the API of a cluster: requests by path, and tunnels to pods.

kr8s reads the kubeconfig and logs in. It supports the login methods of kubectl.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import httpx

from ....plugin.errors import GoneError, ResourceError, UnreachableError
from .errors import RefusedError, refused
from .location import Where
from .pods import Manifest, is_ready, port_of_pod

_log = logging.getLogger(__name__)
# The token of a pod's service account.
_SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
T = TypeVar("T")

# Time limits for a cluster that does not answer.
_SECONDS = 60.0
_TIMEOUT = httpx.Timeout(_SECONDS, connect=10)
_PATHS = {
    "ConfigMap": "api/v1/namespaces/{namespace}/configmaps",
    "CronJob": "apis/batch/v1/namespaces/{namespace}/cronjobs",
    "Deployment": "apis/apps/v1/namespaces/{namespace}/deployments",
    "Event": "api/v1/namespaces/{namespace}/events",
    "Gateway": "apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/gateways",
    "HTTPRoute": "apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes",
    "Job": "apis/batch/v1/namespaces/{namespace}/jobs",
    "Namespace": "api/v1/namespaces",
    "Node": "api/v1/nodes",
    "PersistentVolumeClaim": "api/v1/namespaces/{namespace}/persistentvolumeclaims",
    "Pod": "api/v1/namespaces/{namespace}/pods",
    "ReplicaSet": "apis/apps/v1/namespaces/{namespace}/replicasets",
    "Secret": "api/v1/namespaces/{namespace}/secrets",
    "Service": "api/v1/namespaces/{namespace}/services",
    "StatefulSet": "apis/apps/v1/namespaces/{namespace}/statefulsets",
    "StorageClass": "apis/storage.k8s.io/v1/storageclasses",
}


class ClusterApi:
    """Requests to one cluster over persistent connections.

    Every call raises UnreachableError if the cluster does not answer, and RefusedError with the
    message of the API if it refuses the request.
    """

    def __init__(self, where: Where) -> None:
        self.where = where
        self._loop = asyncio.new_event_loop()
        # An error in a tunnel ends only that connection. Its client sees this and can retry.
        self._loop.set_exception_handler(lambda _loop, context: _log.debug("%s", context))
        threading.Thread(target=self._loop.run_forever, name="cluster", daemon=True).start()
        self._api: Any = None
        self._login: asyncio.Future[Any] | None = None
        self._tunnels: list[Any] = []

    def get(self, kind: str, name: str) -> Manifest | None:
        """The object; None if it does not exist."""
        try:
            return self._objects("GET", f"{self._path(kind)}/{name}")
        except RefusedError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def list_objects(
        self, kind: str, labels: Mapping[str, str] | None = None, fields: str = ""
    ) -> list[Manifest]:
        """The objects with these labels that match the field selector `fields`."""
        query = {
            "labelSelector": ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        }
        if fields:
            query["fieldSelector"] = fields
        return self._objects("GET", self._path(kind), params=query).get("items") or []

    def create(self, kind: str, manifest: Manifest) -> Manifest:
        """Create an object. Returns it as the cluster stored it."""
        created: Manifest = self.request("POST", self._path(kind), json=manifest).json()
        return created

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and its dependents. A missing object is not an error."""
        body = {"propagationPolicy": "Background"}
        with _ignore_not_found():
            self.request("DELETE", f"{self._path(kind)}/{name}", json=body)

    def apply(self, kind: str, manifest: Manifest, manager: str) -> None:
        """Create or change an object with server-side apply."""
        self.request(
            "PATCH",
            f"{self._path(kind)}/{manifest['metadata']['name']}",
            params={"fieldManager": manager, "force": "true"},
            content=json.dumps(manifest),
            headers={"content-type": "application/apply-patch+yaml"},
        )

    def log(self, pod: str, container: str, lines: int, previous: bool = False) -> str:
        """The last lines of a container's log; empty if there is no log."""
        query = {"container": container, "tailLines": str(lines)}
        if previous:
            query["previous"] = "true"
        try:
            return self.request("GET", f"{self._path('Pod')}/{pod}/log", params=query).text
        except RefusedError:
            return ""

    def follow(
        self, pod: str, container: str, query: Mapping[str, str], on_line: Callable[[str], None]
    ) -> Future[None]:
        """Call `on_line` with each line of a container's log, in the thread of this client.

        The future is done when the log has ended or the request was refused. Cancel it to stop.
        """

        async def read() -> None:
            api = await self._connected()
            async with api.call_api(
                "GET", base="/api", version="", stream=True, raise_for_status=False,
                url=f"{self._path('Pod').removeprefix('api/')}/{pod}/log",
                params={**query, "container": container, "follow": "true"},
            ) as response:  # fmt: skip
                if not response.is_error:
                    async for line in response.aiter_lines():
                        on_line(line)

        return asyncio.run_coroutine_threadsafe(read(), self._loop)

    def ask_pod(self, pod: str, port: int, path: str) -> httpx.Response:
        """The response of a pod to a GET request, through a tunnel past network policies."""

        async def ask() -> httpx.Response:
            from kr8s.asyncio.objects import Pod  # noqa: PLC0415 - only with a cluster
            from kr8s.asyncio.portforward import PortForward  # noqa: PLC0415

            api = await self._connected()
            pod_or_service = await Pod.get(pod, namespace=self.where.namespace, api=api)
            async with (
                PortForward(pod_or_service, port, local_port="auto") as local,
                httpx.AsyncClient(trust_env=False, timeout=10) as client,
            ):
                return await client.get(f"http://127.0.0.1:{local}{path}")

        return self._wait(ask())

    def tunnel(self, service: str, port: int, local: int | None = None) -> str:
        """Open a tunnel to a ready pod of a Service. It stays open while this process runs.

        `local` is the TCP port on this machine. Default: an unused port. Returns the address,
        `127.0.0.1:port`.
        """

        async def open_it() -> int:
            from kr8s.asyncio.objects import Service  # noqa: PLC0415 - only with a cluster
            from kr8s.asyncio.portforward import PortForward  # noqa: PLC0415

            api = await self._connected()
            pod_or_service = await Service.get(service, namespace=self.where.namespace, api=api)
            forward: Any = PortForward(pod_or_service, number, local_port=local or "auto")
            opened: int = await forward.__aenter__()
            self._tunnels.append(forward)
            return opened

        exposed = self.get("Service", service)
        if exposed is None:
            raise GoneError(f"there is no Service {service} in {self.where.namespace}")
        pods = self.list_objects("Pod", exposed["spec"]["selector"])
        if not any(map(is_ready, pods)):
            raise UnreachableError(f"no pod of Service {service} is ready")
        number = port_of_pod(exposed, port, next(filter(is_ready, pods)))
        return f"127.0.0.1:{self._wait(open_it())}"

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The response to one request."""
        return self._wait(self._request(method, path, options))

    def read(self, path: str) -> Manifest:
        """The object at a path. Raises RefusedError if it does not exist."""
        return self._objects("GET", path)

    def server(self) -> str:
        """The address of the API server in the kubeconfig."""

        async def address() -> str:
            return str((await self._connected()).auth.server)

        return self._wait(address())

    def _objects(self, method: str, path: str, **options: Any) -> Manifest:
        try:
            manifest = self.request(method, path, **options).json()
        except ValueError:
            manifest = None
        if not isinstance(manifest, dict):
            raise UnreachableError(f"the server is not a Kubernetes API: {self._hint()}")
        return manifest

    def _path(self, kind: str) -> str:
        return _PATHS[kind].format(namespace=self.where.namespace)

    async def _connected(self) -> Any:
        """The logged-in client of kr8s. Concurrent calls share one login attempt and its error."""
        if self._api is None:
            if self._login is None:
                self._login = asyncio.ensure_future(self._log_in())
                self._login.add_done_callback(self._clear_login)
            # A caller that is cancelled must not cancel the login for the others.
            self._api = await asyncio.shield(self._login)
        return self._api

    def _clear_login(self, login: asyncio.Future[Any]) -> None:
        self._login = None

    async def _log_in(self) -> Any:
        file = self.where.kubeconfig
        if file is not None and not Path(file).is_file():
            raise UnreachableError(
                f"there is no kubeconfig {file}: correct mlops:kubernetes.kubeconfig"
            )
        if file is None and _missing(paths := os.environ.get("KUBECONFIG", "")):
            raise UnreachableError(
                f"there is no kubeconfig {paths}: correct the environment variable KUBECONFIG, or "
                "set mlops:kubernetes.kubeconfig"
            )
        import kr8s.asyncio  # noqa: PLC0415 - 0.3 s, and only with a cluster

        from . import login as logins  # noqa: PLC0415 - it imports kr8s, too

        logins.use()
        login = kr8s.asyncio.api(
            kubeconfig=self.where.kubeconfig,
            context=self.where.context,
            namespace=self.where.namespace,
        )
        try:
            return await asyncio.wait_for(login, _SECONDS)
        except kr8s.ServerError as error:
            raise refused(_response_of(error)) from None
        except (httpx.HTTPError, OSError, ValueError):
            raise
        # Invalid files raise many exception types, and those of YAML quote the file.
        except Exception as error:
            raise UnreachableError(
                f"the kubeconfig cannot be used ({type(error).__name__}): {self._hint()}"
            ) from None

    async def _request(self, method: str, path: str, options: Mapping[str, Any]) -> httpx.Response:
        answer = await self._send(method, path, options, renew=False)
        if answer.status_code == httpx.codes.UNAUTHORIZED:  # many logins expire after 15 minutes
            answer = await self._send(method, path, options, renew=True)
        if answer.is_error:
            raise refused(answer)
        return answer

    async def _send(
        self, method: str, path: str, options: Mapping[str, Any], renew: bool
    ) -> httpx.Response:
        """Send one request. With `renew`, kr8s logs in again if the login has expired."""
        import kr8s  # noqa: PLC0415 - only with a cluster

        api = await self._connected()
        base, _, rest = path.partition("/")
        try:
            async with api.call_api(
                method,
                base=f"/{base}",
                version="",
                url=rest,
                raise_for_status=renew,
                **{"timeout": _TIMEOUT, **options},
            ) as response:
                answer: httpx.Response = response
        except kr8s.ServerError as error:
            answer = _response_of(error)
        except kr8s.APITimeoutError:
            raise TimeoutError(f"no answer within {_SECONDS:g} s") from None
        return answer

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except ResourceError:
            raise
        except Exception as error:
            # kr8s wraps some errors in its own exceptions.
            known = isinstance(error, httpx.HTTPError | OSError | ValueError | RuntimeError)
            if not known and not type(error).__module__.startswith("kr8s"):
                raise
            why = str(error) or type(error).__name__
            raise UnreachableError(f"no cluster answers ({why}): {self._hint()}") from None

    def _hint(self) -> str:
        named = f"context {self.where.context}" if self.where.context else "its current context"
        file = f"the kubeconfig {self.where.kubeconfig or ''}".rstrip()
        return f"check {file} and {named} (mlops:kubernetes) with `kubectl cluster-info`"


def _missing(paths: str) -> bool:
    """Whether KUBECONFIG lists only missing files, and there is no service account token."""
    files = [Path(each).expanduser() for each in paths.split(os.pathsep) if each]
    return bool(files) and not any(map(Path.is_file, [*files, _SERVICE_ACCOUNT_TOKEN]))


@contextlib.contextmanager
def _ignore_not_found() -> Iterator[None]:
    try:
        yield
    except RefusedError as error:
        if error.status != httpx.codes.NOT_FOUND:
            raise


def _response_of(error: Any) -> httpx.Response:
    """The response that caused a ServerError of kr8s."""
    response: httpx.Response = error.response
    return response
