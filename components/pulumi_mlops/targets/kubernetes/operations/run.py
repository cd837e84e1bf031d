"""`mlops run` on a cluster: one more run of a job, beside those that were."""

from __future__ import annotations

import json
import secrets
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from ....cli.selection import CommandError, Stack, select_job
from ....cli.terminal import Style, duration
from ....plugin.errors import ResourceError
from ..api import explain
from ..api.client import ClusterApi
from ..api.pods import Manifest
from ..api.workloads import fresh_spec, job_end, job_outputs
from .follow import Follower
from .inventory import Inventory, component, connect, labels_of, name_of, take

_MARK = "mlops/started-by"
_KINDS = ("Job", "CronJob", "Pod")
# Such a run needs no looking at after a week; it goes with the job that it was made from, too.
_KEPT_SECONDS = 7 * 86_400
_HOPELESS_AFTER = 30.0
_HOPELESS = {
    "CreateContainerConfigError", "ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff",
    "InvalidImageName",
}  # fmt: skip


def run(stack: Stack, pipeline: str) -> int:
    """Run a job now, show its log and its outputs; the code that it exits with."""
    api = connect(stack)
    found = take(api, stack, _KINDS)
    name = select_job(pipeline, found.job_names())
    if any(job_end(job) is None for job in found.jobs(name)):
        raise CommandError(f"{name} is running already: wait for it to end")
    cancelled = threading.Event()

    def cancel(_number: int, _frame: FrameType | None) -> None:
        # By a thread: this one may be inside of the event at this moment, holding its lock.
        threading.Thread(target=cancelled.set).start()

    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, cancel) for number in handled}
    try:
        begun = time.monotonic()
        made = api.create("Job", manifest(found, name))
        job = _Run(api, made["metadata"]["name"], cancelled)
        ended = job.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    style = Style(sys.stderr)
    if ended is None:
        print(f"{style.unsure('interrupted:')} {name} has ended", file=sys.stderr)
        return 128 + signal.SIGINT
    took = duration(time.monotonic() - begun)
    state, why = ended
    if state == "Failed":
        if (code := job.exit_code()) is None or "DeadlineExceeded" in why:
            raise CommandError(f"{name}: {why or 'its pod is gone'}; `mlops logs {name}`")
        print(
            f"{style.bad('failed:')} {name} ended with exit code {code} after {took}; "
            f"its log: mlops logs {name}",
            file=sys.stderr,
        )
        return code
    print(f"{style.good('done:')} {name} after {took}", file=sys.stderr)
    for key, value in job_outputs(name, job.pods()).items():
        text = value if isinstance(value, str) else json.dumps(value)
        print(f"  {key}: {text}")
    return 0


def manifest(found: Inventory, name: str) -> Manifest:
    """A Job like the last one that was provisioned, or like those of its CronJob."""
    ours = [each for each in found.of("CronJob") if name_of(each) == name]
    source = next((each for each in ours if component(each) == "job"), None)
    if source is not None:
        spec = source["spec"]["jobTemplate"]["spec"]
    else:
        source = [job for job in found.jobs(name) if not _by_hand(job)][-1]
        spec = source["spec"]
    spec = fresh_spec(spec)
    labels = labels_of(source)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{name[:46].rstrip('-')}-run-{secrets.token_hex(4)}",
            "labels": {key: labels[key] for key in labels if key.startswith("app.kubernetes.io/")},
            "annotations": {_MARK: "mlops run"},
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": source["kind"],
                    "name": source["metadata"]["name"],
                    "uid": source["metadata"]["uid"],
                    # Its history is the CronJob's own; a Job has nothing to do with another.
                    "controller": source["kind"] == "CronJob",
                }
            ],
        },
        "spec": {**spec, "ttlSecondsAfterFinished": _KEPT_SECONDS},
    }


def _by_hand(job: Manifest) -> bool:
    return _MARK in (job["metadata"].get("annotations") or {})


class _Run:
    def __init__(self, api: ClusterApi, name: str, cancelled: threading.Event) -> None:
        self._api, self._name, self._cancelled = api, name, cancelled
        self._told = ""

    def wait(self) -> tuple[str, str] | None:
        """How it ended; None when it was cancelled. Its log is shown meanwhile."""
        follower = Follower(self._api, sys.maxsize, self._show)
        begun, ended = time.monotonic(), None
        while True:
            try:
                found = self._api.get("Job", self._name)
                if found is None:
                    raise CommandError(f"{self._name} is gone: somebody deleted it")
                ended, pods = job_end(found), self.pods()
                follower.look(pods)
                self._progress(pods, begun)
            except ResourceError as error:
                self._say(str(error))
            # The last lines may come after the word that it has ended.
            follower.listen(0.5)
            if self._cancelled.is_set():
                self._end()
                return None
            if ended is not None and not follower.going_on:
                follower.rest()
                return ended

    def pods(self) -> list[Manifest]:
        """Its pods."""
        return self._api.every("Pod", {"batch.kubernetes.io/job-name": self._name})

    def exit_code(self) -> int | None:
        """What its program exited with, as far as that is known."""
        for pod in self.pods():
            for status in pod.get("status", {}).get("containerStatuses", []):
                ended: dict[str, Any] = status.get("state", {}).get("terminated") or {}
                if ended.get("exitCode"):
                    return int(ended["exitCode"])
        return None

    def _progress(self, pods: list[Manifest], begun: float) -> None:
        """Say what it waits for; end it when that can never come."""
        waiting = [pod for pod in pods if pod.get("status", {}).get("phase") == "Pending"]
        if not waiting:
            return
        reason = explain.reason(waiting[-1])
        late = time.monotonic() - begun > _HOPELESS_AFTER
        if late and reason.partition(":")[0] in _HOPELESS:
            told = explain.pods(self._api, waiting)
            self._end()
            raise CommandError(f"{self._name} cannot start\n{told}")
        if reason != "pending":
            self._say(reason)

    def _end(self) -> None:
        self._api.delete("Job", self._name)
        while self.pods():
            time.sleep(0.5)

    def _say(self, text: str) -> None:
        if text != self._told:
            print(f"{Style(sys.stderr).unsure('waiting:')} {text}", file=sys.stderr)
        self._told = text

    def _show(self, _pod: str, line: str) -> None:
        try:
            print(line, flush=True)
        except BrokenPipeError:  # its reader has gone
            self._cancelled.set()
