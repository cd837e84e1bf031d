"""`mlops run` for the Kubernetes target: creates one more run of a job."""

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
from .inventory import Inventory, component, connect, labels_of, list_objects, name_of

_STARTED_BY = "mlops/started-by"
_KINDS = ("Job", "CronJob", "Pod")
# The run is deleted after a week, or together with the job that it was created from.
_TTL_SECONDS = 7 * 86_400
_STUCK_SECONDS = 30.0
_PERMANENT_REASONS = {
    "CreateContainerConfigError", "ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff",
    "InvalidImageName",
}  # fmt: skip


def run(stack: Stack, pipeline: str) -> int:
    """Run a job now and show its log and outputs. Returns its exit code."""
    api = connect(stack)
    inventory = list_objects(api, stack, _KINDS)
    name = select_job(pipeline, inventory.job_names())
    if any(job_end(job) is None for job in inventory.jobs(name)):
        raise CommandError(f"{name} is already running: wait for it to end")
    cancelled = threading.Event()

    def cancel(_number: int, _frame: FrameType | None) -> None:
        # In a thread: the interrupted code may hold the lock of the event.
        threading.Thread(target=cancelled.set).start()

    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous_handlers = {number: signal.signal(number, cancel) for number in handled}
    try:
        started = time.monotonic()
        created = api.create("Job", manifest(inventory, name))
        job = _Run(api, created["metadata"]["name"], cancelled)
        ended = job.wait()
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
    style = Style(sys.stderr)
    if ended is None:
        print(f"{style.unsure('interrupted:')} {name} has ended", file=sys.stderr)
        return 128 + signal.SIGINT
    took = duration(time.monotonic() - started)
    state, why = ended
    if state == "Failed":
        if (code := job.exit_code()) is None or "DeadlineExceeded" in why:
            raise CommandError(f"{name}: {why or 'its pod was deleted'}; `mlops logs {name}`")
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


def manifest(inventory: Inventory, name: str) -> Manifest:
    """The manifest of a new run, from the CronJob of the job or its last provisioned run."""
    cron_jobs = [each for each in inventory.of("CronJob") if name_of(each) == name]
    source = next((each for each in cron_jobs if component(each) == "job"), None)
    if source is not None:
        spec = source["spec"]["jobTemplate"]["spec"]
    else:
        source = [job for job in inventory.jobs(name) if not _is_manual(job)][-1]
        spec = source["spec"]
    spec = fresh_spec(spec)
    labels = labels_of(source)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{name[:46].rstrip('-')}-run-{secrets.token_hex(4)}",
            "labels": {key: labels[key] for key in labels if key.startswith("app.kubernetes.io/")},
            "annotations": {_STARTED_BY: "mlops run"},
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": source["kind"],
                    "name": source["metadata"]["name"],
                    "uid": source["metadata"]["uid"],
                    # A CronJob manages its runs; a Job does not manage another.
                    "controller": source["kind"] == "CronJob",
                }
            ],
        },
        "spec": {**spec, "ttlSecondsAfterFinished": _TTL_SECONDS},
    }


def _is_manual(job: Manifest) -> bool:
    return _STARTED_BY in (job["metadata"].get("annotations") or {})


class _Run:
    def __init__(self, api: ClusterApi, name: str, cancelled: threading.Event) -> None:
        self._api, self._name, self._cancelled = api, name, cancelled
        self._printed = ""

    def wait(self) -> tuple[str, str] | None:
        """Show the log until the run ends. Returns its end; None if it was cancelled."""
        follower = Follower(self._api, sys.maxsize, self._show)
        started, ended = time.monotonic(), None
        while True:
            try:
                job = self._api.get("Job", self._name)
                if job is None:
                    raise CommandError(f"{self._name} was deleted")
                ended, pods = job_end(job), self.pods()
                follower.update(pods)
                self._progress(pods, started)
            except ResourceError as error:
                self._print_once(str(error))
            # The last lines may arrive after the end of the Job.
            follower.listen(0.5)
            if self._cancelled.is_set():
                self._delete()
                return None
            if ended is not None and not follower.is_reading:
                follower.flush()
                return ended

    def pods(self) -> list[Manifest]:
        """The pods of the run."""
        return self._api.every("Pod", {"batch.kubernetes.io/job-name": self._name})

    def exit_code(self) -> int | None:
        """The exit code of the program; None if unknown."""
        for pod in self.pods():
            for status in pod.get("status", {}).get("containerStatuses", []):
                ended: dict[str, Any] = status.get("state", {}).get("terminated") or {}
                if ended.get("exitCode"):
                    return int(ended["exitCode"])
        return None

    def _progress(self, pods: list[Manifest], started: float) -> None:
        """Print why the run waits. End it if its pods can never start."""
        waiting = [pod for pod in pods if pod.get("status", {}).get("phase") == "Pending"]
        if not waiting:
            return
        reason = explain.reason(waiting[-1])
        stuck = time.monotonic() - started > _STUCK_SECONDS
        if stuck and reason.partition(":")[0] in _PERMANENT_REASONS:
            details = explain.pods(self._api, waiting)
            self._delete()
            raise CommandError(f"{self._name} cannot start\n{details}")
        if reason != "pending":
            self._print_once(reason)

    def _delete(self) -> None:
        self._api.delete("Job", self._name)
        while self.pods():
            time.sleep(0.5)

    def _print_once(self, text: str) -> None:
        if text != self._printed:
            print(f"{Style(sys.stderr).unsure('waiting:')} {text}", file=sys.stderr)
        self._printed = text

    def _show(self, _pod: str, line: str) -> None:
        try:
            print(line, flush=True)
        except BrokenPipeError:  # the reader of the output ended
            self._cancelled.set()
