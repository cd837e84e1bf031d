"""Waits until a workload matches its newest generation, and fails early if it cannot."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ....plugin.errors import ResourceError, UnreachableError
from ....plugin.handler import Context
from ..api import explain, gateways
from ..api.client import ClusterApi
from ..api.clusters import Clusters
from ..api.errors import RefusedError
from ..api.pods import Manifest, container_statuses, is_ready, readiness_address
from ..api.workloads import fresh_spec, is_complete, job_end, job_outputs
from ..ports import PROXY_STATE_PORT

_SETTLE_SECONDS = 3.0  # a pod must fail for this long, since a first failure may be temporary
_REFUSED_SECONDS = 15.0  # the Gateway's controller may learn of a Service later than of the route
_POD_REQUEST_INTERVAL = 5.0  # seconds: each request opens a tunnel to a pod
_MAX_RESTARTS = 2  # during the wait
_FATAL_REASONS = {"InvalidImageName", "CreateContainerConfigError", "ErrImageNeverPull"}
_POLL_INTERVAL = 0.5  # seconds
_REPORT_SECONDS = 15.0  # the resolution of the elapsed time in status lines
_MAX_OUTAGE = 120.0  # seconds: an API server does not answer while it is restarted or upgraded
_TOO_MANY_REQUESTS, _SERVER_ERROR = 429, 500  # HTTP status codes
T = TypeVar("T")


class Wait:
    """One wait for one workload. Every method raises ResourceError with the reason of a failure."""

    def __init__(
        self,
        clusters: Clusters,
        ctx: Context,
        *,
        kind: str,
        namespace: str,
        name: str,
        timeout: float,
    ) -> None:
        self._clusters = clusters
        self._ctx, self._kind, self._name, self._timeout = ctx, kind, name, timeout
        self._api: ClusterApi = clusters.at(namespace)
        self._deadline = time.monotonic() + timeout
        self._last_pods: list[Manifest] = []
        self._status_shown = False
        self._restarts: dict[str, int] = {}
        self._answered = False
        self._outage_since: float | None = None
        self._next_pod_request = time.monotonic() + _SETTLE_SECONDS

    def for_pods(self, min_pods: float | None = None) -> None:
        """Wait until all pods of the newest generation are ready.

        `min_pods` is the minimum number of pods. Default: the replicas in the spec.
        """
        hopeless_since: float | None = None
        while True:
            workload = self._workload()
            if is_complete(workload, min_pods):
                self._done()
                return
            pods = self._pods(workload)
            hopeless = [pod for pod in pods if self._is_hopeless(pod)]
            if not hopeless:
                hopeless_since = None
            elif hopeless_since is None:
                hopeless_since = time.monotonic()
            elif time.monotonic() - hopeless_since > _SETTLE_SECONDS:
                raise ResourceError(self._explained("cannot start", pods))
            if (reason := self._reported_failure(pods)) is not None:
                raise ResourceError(self._explained(f"cannot become ready: {reason}", pods))
            self._pause(pods)

    def for_job(self) -> dict[str, Any]:
        """Wait until the job has completed. Returns its outputs."""
        if (job_end(self._workload()) or ("", ""))[0] == "Failed":
            # The job failed in an earlier update.
            self._run_again()
        while True:
            job = self._workload()
            state, reason = job_end(job) or ("", "")
            pods = self._pods(job)
            if state == "Complete":
                self._done()
                return job_outputs(self._name, pods)
            if state == "Failed":
                raise ResourceError(self._explained(f"failed ({reason})", pods))
            if [pod for pod in pods if self._is_hopeless(pod)] and self._late(5):
                raise ResourceError(self._explained("cannot start", pods))
            self._pause(pods)

    def for_table(self, table: Any) -> None:
        """Wait until every proxy of the route has applied the traffic table."""
        expected = json.loads(json.dumps(table))
        while True:
            pods = self._pods(self._workload())
            ready = [pod for pod in pods if is_ready(pod)]
            pending = [pod for pod in ready if self._table_of(pod) != expected]
            if ready and not pending:
                self._done()
                return
            if time.monotonic() > self._deadline:
                problem = f"has not applied the traffic table after {self._timeout:g} s"
                details = explain.logs(self._api, pending) or explain.pods(self._api, pods)
                raise ResourceError(f"{self._kind} {self._name} {problem}\n{details}".rstrip())
            names = ", ".join(pod["metadata"]["name"] for pod in pending) or "a proxy"
            self._show_status(f"waiting until the traffic table is applied by {names}")

    def for_gateway(self) -> None:
        """Wait until the Gateway has accepted the newest generation of an HTTPRoute."""
        refused_since: float | None = None
        while True:
            route = self._workload()
            refusals = gateways.refusals(route)
            if refusals == []:
                self._done()
                return
            now = time.monotonic()
            late = now > self._deadline
            if refusals is None:
                refused_since = None
                if self._late(_SETTLE_SECONDS):
                    hopeless, reason = self._unserved(route)
                    if late or hopeless:
                        raise self._not_accepted([reason])
            else:
                refused_since = now if refused_since is None else refused_since
                if late or now - refused_since > _REFUSED_SECONDS:
                    raise self._not_accepted(refusals)
            self._show_status("waiting until the Gateway has accepted the route")

    def _unserved(self, route: Manifest) -> tuple[bool, str]:
        return self._ask(lambda: gateways.unprocessed(self._clusters.at, route))

    def _not_accepted(self, reasons: list[str]) -> ResourceError:
        return ResourceError(
            "\n".join([f"{self._kind} {self._name} is not accepted by its Gateway", *reasons])
        )

    def _table_of(self, pod: Manifest) -> Any:
        try:
            answer = self._api.ask_pod(pod["metadata"]["name"], PROXY_STATE_PORT, "/state")
            return answer.json().get("table")
        except (ResourceError, ValueError):
            return None

    def _workload(self) -> Manifest:
        """The object. Raises ResourceError if it does not exist."""
        manifest = self._ask(lambda: self._api.get(self._kind, self._name))
        if manifest is None:
            raise ResourceError(
                f"{self._kind} {self._name} is gone: it was deleted by other means. Run `pulumi "
                "refresh`, then update again"
            )
        return manifest

    def _pods(self, workload: Manifest) -> list[Manifest]:
        """The pods of the workload that are not being deleted, of its newest template only."""
        labels = workload["spec"]["selector"]["matchLabels"]
        pods = [
            pod
            for pod in self._ask(lambda: self._api.list_objects("Pod", labels))
            if "deletionTimestamp" not in pod["metadata"]
        ]
        if self._kind != "Deployment":
            return pods
        # Pods of earlier templates keep running during a rollout.
        replica_sets = self._ask(lambda: self._api.list_objects("ReplicaSet", labels))
        newest = max(
            replica_sets,
            key=lambda each: int(
                each["metadata"]["annotations"].get("deployment.kubernetes.io/revision", 0)
            ),
            default=None,
        )
        if newest is None:
            return []
        uid = newest["metadata"]["uid"]
        return [
            pod
            for pod in pods
            if any(each["uid"] == uid for each in pod["metadata"].get("ownerReferences", []))
        ]

    def _ask(self, request: Callable[[], T]) -> T:
        """The result of `request`. It is repeated during an outage of the API server.

        The deadline is extended by the outage. An API server that has never answered is an error.
        """
        while True:
            try:
                result = request()
            except (UnreachableError, RefusedError) as error:
                if not self._answered or not _is_temporary(error):
                    raise
                now = time.monotonic()
                self._outage_since = self._outage_since or now
                if now - self._outage_since > _MAX_OUTAGE:
                    raise ResourceError(
                        f"it is unknown whether {self._kind} {self._name} is ready: the cluster "
                        f"has not answered for {_MAX_OUTAGE:g} s. Its workloads keep running. "
                        f"Update again once it answers\n{error}"
                    ) from None
                self._show_status(f"waiting until the cluster answers again: {error}")
            else:
                self._answered = True
                if self._outage_since is not None:
                    self._deadline += time.monotonic() - self._outage_since
                    self._outage_since = None
                return result

    def _run_again(self) -> None:
        """Replace a failed Job with a copy of itself."""
        job = self._workload()
        manager = next(
            (
                each["manager"]
                for each in job["metadata"].get("managedFields", [])
                if each.get("operation") == "Apply"
            ),
            "pulumi-mlops",
        )
        spec = fresh_spec(job["spec"])
        copied = ("name", "namespace", "labels", "annotations")
        metadata = {key: value for key, value in job["metadata"].items() if key in copied}
        self._ctx.log(f"job {self._name} failed in an earlier update: it runs again")
        self._api.delete("Job", self._name)
        while self._ask(lambda: self._api.get("Job", self._name)) is not None:
            self._pause([])
        manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
        self._api.apply("Job", manifest, manager)

    def _is_hopeless(self, pod: Manifest) -> bool:
        """Whether the pod will not become ready: it crashes repeatedly, or it cannot be created."""
        for status in container_statuses(pod):
            reason = status.get("state", {}).get("waiting", {}).get("reason", "")
            restarts = status.get("restartCount", 0)
            # Earlier restarts do not count: their reason may have been removed by this update.
            earlier_restarts = self._restarts.setdefault(
                f"{pod['metadata']['uid']} {status['name']}", restarts
            )
            if reason in _FATAL_REASONS or restarts - earlier_restarts >= _MAX_RESTARTS:
                return True
            if reason == "ImagePullBackOff":
                return True
            message = status["state"]["waiting"].get("message", "") if reason else ""
            if reason == "ErrImagePull" and "not found" in message:
                return True
        return False

    def _reported_failure(self, pods: list[Manifest]) -> str | None:
        """The error of a running program that reports a permanent failure, or None.

        An example is a model server that cannot load its model.
        """
        if time.monotonic() < self._next_pod_request:
            return None
        self._next_pod_request = time.monotonic() + _POD_REQUEST_INTERVAL
        for pod in pods:
            address = readiness_address(pod)
            if address is None or is_ready(pod) or pod["status"].get("phase") != "Running":
                continue
            try:
                answer = self._api.ask_pod(pod["metadata"]["name"], *address).json()
            except (ResourceError, ValueError):
                continue
            if isinstance(answer, dict) and answer.get("failed") is True:
                return str(answer.get("error", "the program reports a permanent failure"))
        return None

    def _late(self, seconds: float) -> bool:
        """Whether the wait has taken more than `seconds`, without outages."""
        return time.monotonic() > self._deadline - self._timeout + seconds

    def _pause(self, pods: list[Manifest]) -> None:
        if time.monotonic() > self._deadline:
            problem = f"is not ready after {self._timeout:g} s"
            raise ResourceError(self._explained(problem, pods))
        self._last_pods = pods or self._last_pods
        self._show_status(f"waiting: {explain.summary(pods)}")

    def _show_status(self, line: str) -> None:
        """Show a status line, then pause. Raises ResourceError if the user interrupts."""
        # Only a terminal shows how long an operation takes.
        elapsed = time.monotonic() - (self._deadline - self._timeout)
        steps = int(elapsed / _REPORT_SECONDS)
        suffix = f" ({steps * _REPORT_SECONDS:.0f} s)" if steps else ""
        self._ctx.log(f"{line}{suffix}", status=True)
        self._status_shown = True
        if self._ctx.cancelled.wait(_POLL_INTERVAL):
            raise ResourceError(f"interrupted while waiting for {self._kind} {self._name}")

    def _explained(self, problem: str, pods: list[Manifest]) -> str:
        """The error message: the problem, with the last events and log lines of the pods."""
        details = ""
        with contextlib.suppress(ResourceError):
            # Kubernetes deletes the pods of a Job that exceeds its time limit.
            details = explain.pods(self._api, pods or self._last_pods)
            if not details:
                details = explain.owner(self._api, self._kind, self._name)
            if not details and self._kind == "Deployment":
                labels = self._workload()["spec"]["selector"]["matchLabels"]
                for each in self._api.list_objects("ReplicaSet", labels):
                    name = each["metadata"]["name"]
                    details = details or explain.owner(self._api, "ReplicaSet", name)
        return f"{self._kind} {self._name} {problem}\n{details}".rstrip()

    def _done(self) -> None:
        if self._status_shown:
            self._ctx.log("ready", status=True)


def _is_temporary(error: ResourceError) -> bool:
    """Whether the API server is unreachable, overloaded or failing."""
    return (
        not isinstance(error, RefusedError)
        or error.status == _TOO_MANY_REQUESTS
        or error.status >= _SERVER_ERROR
    )
