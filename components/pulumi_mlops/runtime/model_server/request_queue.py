"""The queue of inference requests in front of the model: bounded in number, bytes and time.

Requests wait in the order of their arrival. A request is refused with 503 and `Retry-After` when
the queue is full, or when it has waited for the queue's time limit. A request whose client has
closed the connection is removed and never reaches the model.

The time limit adapts to clients that give up earlier: in first-in, first-out order under a lasting
overload, each request that reaches the model has waited nearly as long as its client waits, and its
answer comes too late. When more than half of the requests are given up in the queue, the limit
becomes a quarter of the time that their clients waited. It grows again, up to the configured limit,
when no request was refused for 10 s.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

from pulumi_mlops.runtime.model_server.http import ClientGone, Receive, RequestError
from pulumi_mlops.runtime.model_server.queue_learning import BatchSize, Patience
from pulumi_mlops.runtime.model_server.uploads import Uploads, UploadsFull

logger = logging.getLogger(__name__)

_SWEEP_SECONDS = 0.1
"""Interval of the check for late requests, and the wait after which a client is watched."""
_RETRY_SECONDS = 1


class Overloaded(RequestError):
    """The request is refused because too many others wait: 503 with `Retry-After`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(503, f"{message}; try again")
        self.reason = reason
        self.retry_seconds = _RETRY_SECONDS


class QueuedRequest:
    """One request in the queue."""

    __slots__ = ("arrived", "future", "gone", "receive", "request", "watcher")

    def __init__(self, request: Any, receive: Receive, future: asyncio.Future[Any]) -> None:
        self.request = request
        self.receive = receive
        self.future = future
        self.arrived = time.monotonic()
        self.gone = False
        """Whether the client has closed the connection."""
        self.watcher: asyncio.Task[Any] | None = None


Outcome = tuple[QueuedRequest, Any]
"""A request and its answer or exception."""


Read = Callable[[Callable[[int], None]], Awaitable[Any]]
"""Receives a request. It calls its argument with the size of each part of the body."""


class Runner(Protocol):
    """Answers jobs on an inference thread."""

    max_batch: int
    """The number of jobs that it takes at once; 1 when it cannot combine any."""

    def run(self, jobs: list[QueuedRequest]) -> Iterable[list[Outcome]]:
        """Answer the jobs, in parts as soon as they are ready."""


class Counts(Protocol):
    """The metrics of a queue."""

    batch_size: Any

    def count_shed(self, reason: str) -> None:
        """Count a request that did not reach the model: `full`, `late` or `gone`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a queue."""

    requests: int
    body_bytes: int
    wait_seconds: float
    delay_seconds: float = 0.0
    """A batch that is not full waits for more requests until its first one has waited so long."""


class RequestQueue:
    """Waiting requests and the inference threads. All methods run on the event loop."""

    def __init__(
        self,
        executor: Executor,
        threads: int,
        limits: Limits,
        counts: Counts,
    ) -> None:
        self._executor = executor
        self._idle = threads
        self._threads = threads
        self._limits = limits
        self._counts = counts
        self._patience = Patience(limits.wait_seconds)
        self._runner: Runner
        self._waiting: dict[QueuedRequest, None] = {}
        self._uploads = Uploads(limits.body_bytes // 2)
        self._bytes = 0
        self._seconds_per_request = 0.0
        self._size = BatchSize()
        self._sweeper: asyncio.TimerHandle | None = None
        self._delayed: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def answer(self, runner: Runner, read: Read, length: int, receive: Receive) -> Any:
        """Read a request and have `runner` answer it. `length` is its `content-length`, or 0.

        Raises Overloaded, ClientGone when the client left, and the exception of the request.
        """
        self._admit(length)
        request, size = await self._read(read)
        self._admit(size)  # The queue may have filled up while the body was read.
        self._bytes += size
        try:
            job = QueuedRequest(request, receive, asyncio.get_running_loop().create_future())
            self._waiting[job] = None
            self._runner = runner
            self._dispatch()
            if job in self._waiting and self._sweeper is None:
                self._sweep_later()
            return await job.future
        finally:
            self._bytes -= size

    async def _read(self, read: Read) -> tuple[Any, int]:
        """The request and the number of bytes of its body. Raises Overloaded."""
        upload = self._uploads.start()
        try:
            return await read(upload.received), upload.size
        except UploadsFull as error:
            self._counts.count_shed("full")
            raise Overloaded("full", f"the server is overloaded: {error}") from None
        finally:
            upload.end()

    def _admit(self, length: int) -> None:
        """Raise Overloaded if the queue is full for a request of this size."""
        waiting, limits = len(self._waiting), self._limits
        reason = ""
        if waiting >= limits.requests:
            reason = f"{waiting} requests wait for the model already"
        elif self._bytes and self._bytes + length > limits.body_bytes:
            reason = f"requests of {self._bytes} bytes wait for the model already"
        else:
            now = time.monotonic()
            wait = waiting * self._seconds_per_request / self._threads
            if self._patience.is_lowered(now) and wait > self._patience.limit(now):
                reason = f"it would wait about {wait:.1f} s for the model"
        if reason:
            self._counts.count_shed("full")
            self._patience.refused(time.monotonic())
            raise Overloaded("full", f"the server is overloaded: {reason}")

    def _dispatch(self) -> None:
        while self._idle and self._waiting:
            size = self._size.limit(self._runner.max_batch)
            if self._must_wait_for_more(size):
                return
            jobs = list(self._take(size))
            if jobs:
                self._idle -= 1
                self._counts.batch_size.observe(len(jobs))
                loop = asyncio.get_running_loop()
                self._executor.submit(self._work, loop, jobs)

    def _must_wait_for_more(self, size: int) -> bool:
        delay = self._limits.delay_seconds
        if not delay or len(self._waiting) >= size:
            return False
        remaining = next(iter(self._waiting)).arrived + delay - time.monotonic()
        if remaining <= 0:
            return False
        if self._delayed is None:
            self._delayed = asyncio.get_running_loop().call_later(remaining, self._delay_over)
        return True

    def _delay_over(self) -> None:
        self._delayed = None
        self._dispatch()

    def _take(self, size: int) -> Iterator[QueuedRequest]:
        """Remove the next jobs from the queue. Late ones are refused."""
        now = time.monotonic()
        limit = self._patience.limit(now)
        while self._waiting and size:
            job = next(iter(self._waiting))
            del self._waiting[job]
            if now - job.arrived > limit:
                self._refuse_late(job, now)
                continue
            size -= 1
            self._patience.served()
            yield job

    def _work(self, loop: asyncio.AbstractEventLoop, jobs: list[QueuedRequest]) -> None:
        """Runs on an inference thread."""
        started = time.perf_counter()
        unanswered = set(jobs)
        last: list[Outcome] = []
        failure: BaseException = ClientGone()
        try:
            for outcomes in self._runner.run(jobs):
                unanswered.difference_update(job for job, _ in outcomes)
                if unanswered:
                    loop.call_soon_threadsafe(self._deliver, outcomes)
                else:
                    last = outcomes
        except BaseException as error:  # must not leave clients waiting, nor end the thread
            failure = error
        last += [(job, failure) for job in unanswered]
        seconds = time.perf_counter() - started
        loop.call_soon_threadsafe(self._finished, last, len(jobs), seconds)

    def _deliver(self, outcomes: list[Outcome]) -> None:
        for job, outcome in outcomes:
            if job.watcher is not None:
                job.watcher.cancel()
            if job.future.done():
                continue
            if isinstance(outcome, BaseException):
                job.future.set_exception(_raisable(outcome))
            else:
                job.future.set_result(outcome)

    def _finished(self, last: list[Outcome], count: int, seconds: float) -> None:
        self._idle += 1
        self._deliver(last)
        self._size.observe(count, seconds)
        each = seconds / count
        weight = 0.2 if self._seconds_per_request else 1.0
        self._seconds_per_request += weight * (each - self._seconds_per_request)
        self._dispatch()

    def _sweep_later(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Refuse late requests, and watch the clients of those that have waited a while."""
        self._sweeper = None
        now = time.monotonic()
        limit = self._patience.limit(now)
        for job in list(self._waiting):
            waited = now - job.arrived
            if waited > limit:
                del self._waiting[job]
                self._refuse_late(job, now)
            elif waited >= _SWEEP_SECONDS / 2:
                self._watch(job)
            else:
                break
        if self._waiting:
            self._sweep_later()

    def _watch(self, job: QueuedRequest) -> None:
        if job.watcher is None:
            job.watcher = asyncio.get_running_loop().create_task(_disconnected(job.receive))
            job.watcher.add_done_callback(lambda _: self._client_gone(job))

    def _client_gone(self, job: QueuedRequest) -> None:
        if job.future.done() or (job.watcher is not None and job.watcher.cancelled()):
            return
        job.gone = True
        if job in self._waiting:
            del self._waiting[job]
            now = time.monotonic()
            self._patience.given_up(now - job.arrived, now)
            self._counts.count_shed("gone")
            job.future.set_exception(ClientGone())

    def _refuse_late(self, job: QueuedRequest, now: float) -> None:
        if job.watcher is not None:
            job.watcher.cancel()
        if not job.future.done():
            self._counts.count_shed("late")
            self._patience.refused(now)
            waited = now - job.arrived
            job.future.set_exception(
                Overloaded("late", f"the server is overloaded: waited {waited:.1f} s for the model")
            )


def _raisable(error: BaseException) -> Exception:
    """The exception for the coroutine of a request.

    There, SystemExit and the like would end the event loop, and a future accepts no StopIteration.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    logger.error("the model raised %s", type(error).__name__, exc_info=error)
    return RequestError(500, f"the model failed: {type(error).__name__}: {error}".strip(": "))


async def _disconnected(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
