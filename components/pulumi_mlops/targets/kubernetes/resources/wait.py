"""Waits for a workload: until it is as its newest generation says, or cannot become so."""

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
from ..api.pods import Manifest, is_ready, readiness_address
from ..api.workloads import fresh_spec, is_complete, job_end, job_outputs
from ..ports import PROXY_STATE_PORT

_SETTLED = 3.0  # seconds: a pod that fails at once fails again, and one failure may be passing
_REFUSED = 15.0  # seconds: its controller may hear of a Service later than of the route
_BETWEEN_QUESTIONS = 5.0  # seconds: each question opens a tunnel to a pod
_GIVE_UP_AFTER = 2  # restarts while it is waited for
_HOPELESS = {"InvalidImageName", "CreateContainerConfigError", "ErrImageNeverPull"}
_PAUSE = 0.5
_OUTAGE = 120.0  # seconds: an API server that is restarted or upgraded is away for a while
_BUSY, _BROKEN = 429, 500  # of HTTP
T = TypeVar("T")


class Wait:
    """One wait for one workload; every method raises ResourceError with what keeps it."""

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
        self._before: list[Manifest] = []
        self._told = False
        self._restarts: dict[str, int] = {}
        self._answered = False
        self._away_since: float | None = None
        self._next_question = time.monotonic() + _SETTLED

    def for_pods(self, least: float | None = None) -> None:
        """Return once the workload is as its newest generation says, with `least` pods if told."""
        hopeless_since: float | None = None
        while True:
            found = self._found()
            if is_complete(found, least):
                self._done()
                return
            pods = self._pods(found)
            hopeless = [pod for pod in pods if self._is_hopeless(pod)]
            if not hopeless:
                hopeless_since = None
            elif hopeless_since is None:
                hopeless_since = time.monotonic()
            elif time.monotonic() - hopeless_since > _SETTLED:
                raise ResourceError(self._explained("cannot start", pods))
            if (reason := self._given_up(pods)) is not None:
                raise ResourceError(self._explained(f"cannot become ready: {reason}", pods))
            self._pause(pods)

    def for_job(self) -> dict[str, Any]:
        """Return what the job left as outputs, once it has completed."""
        if (job_end(self._found()) or ("", ""))[0] == "Failed":
            # An update that comes back to it runs it again.
            self._again()
        while True:
            found = self._found()
            state, why = job_end(found) or ("", "")
            pods = self._pods(found)
            if state == "Complete":
                self._done()
                return job_outputs(self._name, pods)
            if state == "Failed":
                raise ResourceError(self._explained(f"failed ({why})", pods))
            if [pod for pod in pods if self._is_hopeless(pod)] and self._late(5):
                raise ResourceError(self._explained("cannot start", pods))
            self._pause(pods)

    def for_table(self, table: Any) -> None:
        """Return once every proxy of the route has taken over the table."""
        wanted = json.loads(json.dumps(table))
        while True:
            every = self._pods(self._found())
            pods = [pod for pod in every if is_ready(pod)]
            missing = [pod for pod in pods if self._table_of(pod) != wanted]
            if pods and not missing:
                self._done()
                return
            if time.monotonic() > self._deadline:
                late = f"has not taken over the traffic table after {self._timeout:g} s"
                told = explain.logs(self._api, missing) or explain.pods(self._api, every)
                raise ResourceError(f"{self._kind} {self._name} {late}\n{told}".rstrip())
            names = ", ".join(pod["metadata"]["name"] for pod in missing) or "a proxy"
            self._tell(f"waiting until {names} has taken over the traffic table")

    def for_gateway(self) -> None:
        """Return once its Gateway has taken the newest generation of an HTTPRoute."""
        refused_since: float | None = None
        while True:
            found = self._found()
            told = gateways.refusals(found)
            if told == []:
                self._done()
                return
            now = time.monotonic()
            late = now > self._deadline
            if told is None:
                refused_since = None
                if self._late(_SETTLED):
                    hopeless, why = self._unserved(found)
                    if late or hopeless:
                        raise self._not_taken([why])
            else:
                refused_since = now if refused_since is None else refused_since
                if late or now - refused_since > _REFUSED:
                    raise self._not_taken(told)
            self._tell("waiting until its Gateway has taken the route")

    def _unserved(self, route: Manifest) -> tuple[bool, str]:
        return self._ask(lambda: gateways.unprocessed(self._clusters.at, route))

    def _not_taken(self, told: list[str]) -> ResourceError:
        return ResourceError(
            "\n".join([f"{self._kind} {self._name} is not taken by its Gateway", *told])
        )

    def _table_of(self, pod: Manifest) -> Any:
        try:
            answer = self._api.ask_pod(pod["metadata"]["name"], PROXY_STATE_PORT, "/state")
            return answer.json().get("table")
        except (ResourceError, ValueError):
            return None

    def _found(self) -> Manifest:
        found = self._ask(lambda: self._api.get(self._kind, self._name))
        if found is None:
            raise ResourceError(
                f"{self._kind} {self._name} is gone: somebody deleted it; `pulumi refresh`"
            )
        return found

    def _pods(self, found: Manifest) -> list[Manifest]:
        labels = found["spec"]["selector"]["matchLabels"]
        pods = [
            pod
            for pod in self._ask(lambda: self._api.every("Pod", labels))
            if "deletionTimestamp" not in pod["metadata"]
        ]
        if self._kind != "Deployment":
            return pods
        # Those of the newest template: the old ones go on meanwhile.
        sets = self._ask(lambda: self._api.every("ReplicaSet", labels))
        newest = max(
            sets,
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

    def _ask(self, question: Callable[[], T]) -> T:
        """The cluster's answer, asked for again while an API that did answer is away for a while.

        That time does not count: the deadline is for the workload.
        """
        while True:
            try:
                answer = question()
            except (UnreachableError, RefusedError) as error:
                if not self._answered or not _is_passing(error):
                    raise
                now = time.monotonic()
                self._away_since = self._away_since or now
                if now - self._away_since > _OUTAGE:
                    raise ResourceError(
                        f"nobody knows whether {self._kind} {self._name} has become ready: for "
                        f"{_OUTAGE:g} s the cluster has not answered. What runs there goes on; "
                        f"update again once it answers\n{error}"
                    ) from None
                self._tell(f"waiting until the cluster answers again: {error}")
            else:
                self._answered = True
                if self._away_since is not None:
                    self._deadline += time.monotonic() - self._away_since
                    self._away_since = None
                return answer

    def _again(self) -> None:
        """Replace a failed job by itself."""
        found = self._found()
        manager = next(
            (
                each["manager"]
                for each in found["metadata"].get("managedFields", [])
                if each.get("operation") == "Apply"
            ),
            "pulumi-mlops",
        )
        spec = fresh_spec(found["spec"])
        wanted = ("name", "namespace", "labels", "annotations")
        metadata = {key: value for key, value in found["metadata"].items() if key in wanted}
        self._ctx.log(f"job {self._name} had failed: it runs again")
        self._api.delete("Job", self._name)
        while self._ask(lambda: self._api.get("Job", self._name)) is not None:
            self._pause([])
        manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
        self._api.apply("Job", manifest, manager)

    def _is_hopeless(self, pod: Manifest) -> bool:
        """Whether waiting is of no use: it crashes again and again, or can never be made."""
        for status in pod.get("status", {}).get("containerStatuses", []):
            reason = status.get("state", {}).get("waiting", {}).get("reason", "")
            restarts = status.get("restartCount", 0)
            # What it did before, it may have done for want of something that is there now.
            before = self._restarts.setdefault(
                f"{pod['metadata']['uid']} {status['name']}", restarts
            )
            if reason in _HOPELESS or restarts - before >= _GIVE_UP_AFTER:
                return True
            if reason in ("ErrImagePull", "ImagePullBackOff"):
                told = status["state"]["waiting"].get("message", "")
                return reason == "ImagePullBackOff" or "not found" in told
        return False

    def _given_up(self, pods: list[Manifest]) -> str | None:
        """The error of a program that runs and says that it will never be ready, such as a model
        server whose model does not load. None when no program says so."""
        if time.monotonic() < self._next_question:
            return None
        self._next_question = time.monotonic() + _BETWEEN_QUESTIONS
        for pod in pods:
            address = readiness_address(pod)
            if address is None or is_ready(pod) or pod["status"].get("phase") != "Running":
                continue
            try:
                answer = self._api.ask_pod(pod["metadata"]["name"], *address).json()
            except (ResourceError, ValueError):
                continue
            if isinstance(answer, dict) and answer.get("failed") is True:
                return str(answer.get("error", "the program has given up"))
        return None

    def _late(self, seconds: float) -> bool:
        return time.monotonic() > self._deadline - self._timeout + seconds

    def _pause(self, pods: list[Manifest]) -> None:
        if time.monotonic() > self._deadline:
            late = f"is not ready after {self._timeout:g} s"
            raise ResourceError(self._explained(late, pods))
        self._before = pods or self._before
        self._tell(f"waiting: {explain.short(pods)}")

    def _tell(self, line: str) -> None:
        self._ctx.log(line, status=True)
        self._told = True
        if self._ctx.cancelled.wait(_PAUSE):
            raise ResourceError(f"interrupted while waiting for {self._kind} {self._name}")

    def _explained(self, what: str, pods: list[Manifest]) -> str:
        told = ""
        with contextlib.suppress(ResourceError):
            # A job that took too long has no pods any more; what is known of them is still told.
            told = explain.pods(self._api, pods or self._before)
            if not told:
                told = explain.owner(self._api, self._kind, self._name)
            if not told and self._kind == "Deployment":
                labels = self._found()["spec"]["selector"]["matchLabels"]
                for each in self._api.every("ReplicaSet", labels):
                    told = told or explain.owner(self._api, "ReplicaSet", each["metadata"]["name"])
        return f"{self._kind} {self._name} {what}\n{told}".rstrip()

    def _done(self) -> None:
        if self._told:
            self._ctx.log("ready", status=True)


def _is_passing(error: ResourceError) -> bool:
    """Whether it says nothing of the workload: an API that is busy, or not well."""
    return not isinstance(error, RefusedError) or error.status == _BUSY or error.status >= _BROKEN
