"""A cluster's API, for threads: requests by path, and tunnels to pods.

kr8s finds the cluster and logs in, in every way that kubectl can.
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
# What a pod has to log in with.
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
T = TypeVar("T")

# A cluster that does not answer at all is not waited for without an end.
_SECONDS = 60.0
_PATIENCE = httpx.Timeout(_SECONDS, connect=10)
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
    """Requests to one cluster, over connections that are kept open.

    Every call raises UnreachableError, or RefusedError with what the API says.
    """

    def __init__(self, where: Where) -> None:
        self.where = where
        self._loop = asyncio.new_event_loop()
        # What breaks in a tunnel ends that one connection: its client sees it, and tries again.
        self._loop.set_exception_handler(lambda _loop, context: _log.debug("%s", context))
        threading.Thread(target=self._loop.run_forever, name="cluster", daemon=True).start()
        self._api: Any = None
        self._login: asyncio.Future[Any] | None = None
        self._tunnels: list[Any] = []

    def get(self, kind: str, name: str) -> Manifest | None:
        """The object, or None when there is none."""
        try:
            return self._objects("GET", f"{self._path(kind)}/{name}")
        except RefusedError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def every(
        self, kind: str, labels: Mapping[str, str] | None = None, fields: str = ""
    ) -> list[Manifest]:
        """The objects that have these labels and fields."""
        query = {
            "labelSelector": ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        }
        if fields:
            query["fieldSelector"] = fields
        return self._objects("GET", self._path(kind), params=query).get("items") or []

    def create(self, kind: str, manifest: Manifest) -> Manifest:
        """Make a new object; the cluster's answer says what became of it."""
        made: Manifest = self.ask("POST", self._path(kind), json=manifest).json()
        return made

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and what it made; what is gone already is no error."""
        body = {"propagationPolicy": "Background"}
        with _gone_is_fine():
            self.ask("DELETE", f"{self._path(kind)}/{name}", json=body)

    def apply(self, kind: str, manifest: Manifest, manager: str) -> None:
        """Make the object what `manifest` says, by server-side apply."""
        self.ask(
            "PATCH",
            f"{self._path(kind)}/{manifest['metadata']['name']}",
            params={"fieldManager": manager, "force": "true"},
            content=json.dumps(manifest),
            headers={"content-type": "application/apply-patch+yaml"},
        )

    def log(self, pod: str, container: str, lines: int, previous: bool = False) -> str:
        """The last lines of a container's log; empty when there is none to be had."""
        query = {"container": container, "tailLines": str(lines)}
        if previous:
            query["previous"] = "true"
        try:
            return self.ask("GET", f"{self._path('Pod')}/{pod}/log", params=query).text
        except RefusedError:
            return ""

    def follow(
        self, pod: str, container: str, query: Mapping[str, str], say: Callable[[str], None]
    ) -> Future[None]:
        """Have `say` get each line of a container's log from now on, in a thread of this object.

        What is returned is done when the log has ended or was refused; cancelled, it ends.
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
                        say(line)

        return asyncio.run_coroutine_threadsafe(read(), self._loop)

    def ask_pod(self, pod: str, port: int, path: str) -> httpx.Response:
        """What a pod answers to a GET. Through a tunnel, which network policies do not close."""

        async def ask() -> httpx.Response:
            from kr8s.asyncio.objects import Pod  # noqa: PLC0415 - only with a cluster
            from kr8s.asyncio.portforward import PortForward  # noqa: PLC0415

            api = await self._connected()
            found = await Pod.get(pod, namespace=self.where.namespace, api=api)
            async with (
                PortForward(found, port, local_port="auto") as local,
                httpx.AsyncClient(trust_env=False, timeout=10) as client,
            ):
                return await client.get(f"http://127.0.0.1:{local}{path}")

        return self._wait(ask())

    def tunnel(self, service: str, port: int, local: int | None = None) -> str:
        """An address of this machine, `127.0.0.1:port`, that leads to a ready pod of a Service as
        long as this process runs; a free port unless `local` says which."""

        async def open_it() -> int:
            from kr8s.asyncio.objects import Service  # noqa: PLC0415 - only with a cluster
            from kr8s.asyncio.portforward import PortForward  # noqa: PLC0415

            api = await self._connected()
            found = await Service.get(service, namespace=self.where.namespace, api=api)
            forward: Any = PortForward(found, number, local_port=local or "auto")
            opened: int = await forward.__aenter__()
            self._tunnels.append(forward)
            return opened

        exposed = self.get("Service", service)
        if exposed is None:
            raise GoneError(f"there is no Service {service} in {self.where.namespace}")
        pods = self.every("Pod", exposed["spec"]["selector"])
        if not any(map(is_ready, pods)):
            raise UnreachableError(f"no pod of Service {service} is ready")
        number = port_of_pod(exposed, port, next(filter(is_ready, pods)))
        return f"127.0.0.1:{self._wait(open_it())}"

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer to one request."""
        return self._wait(self._ask(method, path, options))

    def read(self, path: str) -> Manifest:
        """The object at a path; raises RefusedError when there is none."""
        return self._objects("GET", path)

    def server(self) -> str:
        """The address of the API server, as the kubeconfig has it."""

        async def address() -> str:
            return str((await self._connected()).auth.server)

        return self._wait(address())

    def _objects(self, method: str, path: str, **options: Any) -> Manifest:
        try:
            found = self.ask(method, path, **options).json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UnreachableError(f"what answers is no Kubernetes: {self._look_at()}")
        return found

    def _path(self, kind: str) -> str:
        return _PATHS[kind].format(namespace=self.where.namespace)

    async def _connected(self) -> Any:
        """kr8s, logged in. Who asks meanwhile waits for the same attempt, and shares its end."""
        if self._api is None:
            if self._login is None:
                self._login = asyncio.ensure_future(self._logged_in())
                self._login.add_done_callback(self._tried)
            # Whoever gives up waiting does not take it from the others.
            self._api = await asyncio.shield(self._login)
        return self._api

    def _tried(self, login: asyncio.Future[Any]) -> None:
        self._login = None

    async def _logged_in(self) -> Any:
        file = self.where.kubeconfig
        if file is not None and not Path(file).is_file():
            raise UnreachableError(
                f"there is no kubeconfig {file}: correct mlops:kubernetes.kubeconfig"
            )
        if file is None and _missing(listed := os.environ.get("KUBECONFIG", "")):
            raise UnreachableError(
                f"there is no kubeconfig {listed}: correct the environment variable KUBECONFIG, or "
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
            raise refused(_answer_of(error)) from None
        except (httpx.HTTPError, OSError, ValueError):
            raise
        # A file of whatever content raises of every kind, and YAML's errors quote it.
        except Exception as error:
            raise UnreachableError(
                f"the kubeconfig cannot be used ({type(error).__name__}): {self._look_at()}"
            ) from None

    async def _ask(self, method: str, path: str, options: Mapping[str, Any]) -> httpx.Response:
        answer = await self._once(method, path, options, renew=False)
        if answer.status_code == httpx.codes.UNAUTHORIZED:  # many logins last a quarter of an hour
            answer = await self._once(method, path, options, renew=True)
        if answer.is_error:
            raise refused(answer)
        return answer

    async def _once(
        self, method: str, path: str, options: Mapping[str, Any], renew: bool
    ) -> httpx.Response:
        """The answer; `renew` lets kr8s log in anew."""
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
                **{"timeout": _PATIENCE, **options},
            ) as response:
                answer: httpx.Response = response
        except kr8s.ServerError as error:
            answer = _answer_of(error)
        except kr8s.APITimeoutError:
            raise TimeoutError(f"no answer within {_SECONDS:g} s") from None
        return answer

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except ResourceError:
            raise
        except Exception as error:
            # kr8s wraps some of them in exceptions of its own.
            known = isinstance(error, httpx.HTTPError | OSError | ValueError | RuntimeError)
            if not known and not type(error).__module__.startswith("kr8s"):
                raise
            why = str(error) or type(error).__name__
            raise UnreachableError(f"no cluster answers ({why}): {self._look_at()}") from None

    def _look_at(self) -> str:
        named = f"context {self.where.context}" if self.where.context else "its current context"
        file = f"the kubeconfig {self.where.kubeconfig or ''}".rstrip()
        return f"look at {file} and {named} (mlops:kubernetes), with `kubectl cluster-info`"


def _missing(listed: str) -> bool:
    """Whether KUBECONFIG lists files of which none exists, and no pod's account replaces them."""
    files = [Path(each).expanduser() for each in listed.split(os.pathsep) if each]
    return bool(files) and not any(map(Path.is_file, [*files, _ACCOUNT]))


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except RefusedError as error:
        if error.status != httpx.codes.NOT_FOUND:
            raise


def _answer_of(error: Any) -> httpx.Response:
    """What a ServerError of kr8s is about."""
    found: httpx.Response = error.response
    return found
