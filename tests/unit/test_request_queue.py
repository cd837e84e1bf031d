"""The queue in front of the model: what is refused, what is dropped, and what is left of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pulumi_mlops.runtime.model_server.http import ClientGone, RequestError
from pulumi_mlops.runtime.model_server.queue_learning import BatchSize, Patience
from pulumi_mlops.runtime.model_server.request_queue import (
    Job,
    Limits,
    Overloaded,
    RequestQueue,
)

SECONDS = 0.02
"""Of one request. The capacity is 50 requests a second on any machine."""


class Sleeper:
    """Answers each request with itself after a fixed time."""

    max_batch = 1

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.calls: list[list[Any]] = []

    def run(self, jobs: list[Job]) -> Any:
        self.calls.append([job.request for job in jobs])
        time.sleep(self.seconds)
        yield [(job, job.request) for job in jobs]


class Counts:
    def __init__(self) -> None:
        self.shed: Counter[str] = Counter()
        self.batch_size = self
        self.sizes: list[int] = []

    def count_shed(self, reason: str) -> None:
        self.shed[reason] += 1

    def observe(self, size: int) -> None:
        self.sizes.append(size)


class Server:
    def __init__(self, runner: Any, limits: Limits) -> None:
        self.counts = Counts()
        self.runner = runner
        self.executor = ThreadPoolExecutor(1)
        self.queue = RequestQueue(self.executor, 1, limits, self.counts)

    async def ask(self, number: int, patience: float = 60.0, length: int = 1) -> str:
        """What a client sees that gives up after `patience` seconds."""
        gone = asyncio.Event()

        async def read(received: Callable[[int], None]) -> int:
            received(length)
            return number

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        timer = asyncio.get_running_loop().call_later(patience, gone.set)
        try:
            answer = await self.queue.answer(self.runner, read, length, receive)
            assert answer == number
        except Overloaded as error:
            assert error.status == 503
            return error.reason
        except ClientGone:
            return "gone"
        finally:
            timer.cancel()
        return "gone" if gone.is_set() else "ok"

    async def offer(self, rate: float, seconds: float, patience: float) -> Counter[str]:
        """An open loop: the clients arrive at this rate, whatever becomes of the others."""
        started = time.monotonic()
        tasks = []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(self.ask(number, patience)))
        return Counter(await asyncio.gather(*tasks))


@asynccontextmanager
async def server(runner: Any = None, **limits: Any) -> AsyncIterator[Server]:
    made = Server(
        runner or Sleeper(),
        Limits(**{"requests": 256, "body_bytes": 1 << 20, "wait_seconds": 10.0, **limits}),
    )
    try:
        yield made
    finally:
        made.executor.shutdown(cancel_futures=True)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_a_full_queue_refuses_at_once() -> None:
    async def test() -> None:
        async with server(Sleeper(0.3), requests=3) as it:
            started = time.monotonic()
            tasks = [asyncio.create_task(it.ask(number)) for number in range(6)]
            refused = await asyncio.gather(*tasks[4:])
            assert time.monotonic() - started < 0.3
            assert refused == ["full", "full"]
            assert await asyncio.gather(*tasks[:4]) == ["ok"] * 4
            assert it.counts.shed == {"full": 2}

    run(test)


def test_queued_bodies_are_bounded_but_never_the_first() -> None:
    async def test() -> None:
        async with server(Sleeper(0.2), body_bytes=10) as it:
            outcomes = await asyncio.gather(
                it.ask(0, length=100), it.ask(1, length=1), it.ask(2, length=0)
            )
            assert outcomes == ["ok", "full", "full"]
            assert await it.ask(3, length=10) == "ok"

    run(test)


def test_uploads_are_bounded_apart_from_the_queue() -> None:
    async def test() -> None:
        async with server(Sleeper(0.0), requests=3, body_bytes=400_000) as it:
            complete = asyncio.Event()

            async def upload(parts: list[int]) -> str:
                async def read(received: Callable[[int], None]) -> int:
                    for part in parts:
                        received(part)
                    await complete.wait()
                    return 0

                try:
                    await it.queue.answer(it.runner, read, 0, None)  # type: ignore[arg-type]
                except Overloaded as error:
                    return error.reason
                return "ok"

            slow = [asyncio.create_task(upload([10, 10])) for _ in range(20)]
            slow += [asyncio.create_task(upload([100_000])) for _ in range(2)]
            await asyncio.sleep(0)
            # Neither their number nor their bytes count for the others.
            assert [await it.ask(number) for number in range(5)] == ["ok"] * 5
            assert await it.ask(5, length=60_000) == "ok"
            # Only the bytes that have arrived count, also without a content-length.
            assert await upload([50_000, 50_000]) == "full"
            complete.set()
            seen = Counter(await asyncio.gather(*slow))
            assert seen["full"] == it.counts.shed["full"] - 1 > 0  # more than the queue holds
            assert seen["ok"] >= 3
            assert await it.ask(6, length=300_000) == "ok"  # nothing is left of the uploads

    run(test)


def test_a_request_that_waits_too_long_is_refused_while_the_model_is_busy() -> None:
    async def test() -> None:
        async with server(Sleeper(1.5), wait_seconds=0.2) as it:
            started = time.monotonic()
            busy = asyncio.create_task(it.ask(0))
            await asyncio.sleep(0.01)
            assert await it.ask(1) == "late"
            assert time.monotonic() - started < 1.5
            assert await busy == "ok"

    run(test)


def test_a_request_without_client_never_reaches_the_model() -> None:
    async def test() -> None:
        async with server(Sleeper(0.6)) as it:
            outcomes = await asyncio.gather(it.ask(0), it.ask(1, patience=0.2), it.ask(2))
            assert outcomes == ["ok", "gone", "ok"]
            assert it.runner.calls == [[0], [2]]
            assert it.counts.shed == {"gone": 1}
            assert len(it.queue) == 0

    run(test)


def test_goodput_at_seven_times_the_capacity_and_recovery() -> None:
    """Clients that give up after 0.5 s. The answers of a plain queue would all be too late."""

    async def test() -> None:
        async with server() as it:
            burst = await it.offer(rate=7 / SECONDS, seconds=4, patience=0.5)
            # 4 s have 200 answers. The first second teaches the queue how long clients wait.
            assert burst["ok"] > 120, burst
            assert it.counts.shed["full"] > it.counts.shed["late"]
            await asyncio.sleep(0.5)
            after = await it.offer(rate=0.4 / SECONDS, seconds=1, patience=0.5)
            assert after == {"ok": 20}

    run(test)


def test_clients_that_wait_are_all_answered() -> None:
    """Closed loop: waiting for a slow model is no overload."""

    async def test() -> None:
        async with server(Sleeper(0.05)) as it:
            outcomes = await asyncio.gather(*(it.ask(number) for number in range(40)))
            assert outcomes == ["ok"] * 40

    run(test)


def test_a_failing_runner_leaves_no_client_waiting() -> None:
    class Broken(Sleeper):
        def run(self, jobs: list[Job]) -> Any:
            raise ZeroDivisionError

    async def test() -> None:
        async with server(Broken()) as it:
            for number in range(2):
                with pytest.raises(ZeroDivisionError):
                    await it.ask(number)

    run(test)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), StopIteration()])
def test_an_exception_that_ends_threads_ends_its_own_request_only(error: BaseException) -> None:
    class Ending(Sleeper):
        def run(self, jobs: list[Job]) -> Any:
            (job,) = jobs
            if job.request == 0:
                raise error
            return [[(job, error if job.request == 1 else job.request)]]

    async def test() -> None:
        async with server(Ending()) as it:
            for number in range(2):
                with pytest.raises(RequestError, match=type(error).__name__) as caught:
                    await it.ask(number)
                assert caught.value.status == 500
            assert await it.ask(2) == "ok"

    run(test)


def test_a_batch_is_what_waits_and_a_lone_request_does_not_wait() -> None:
    class Batches(Sleeper):
        max_batch = 8

    async def test() -> None:
        async with server(Batches(0.05)) as it:
            await asyncio.gather(*(it.ask(number) for number in range(10)))
            assert it.runner.calls == [[0], list(range(1, 9)), [9]]
            assert it.counts.sizes == [1, 8, 1]

    run(test)


def test_max_delay_waits_for_a_full_batch_only() -> None:
    class Batches(Sleeper):
        max_batch = 3

    async def test() -> None:
        async with server(Batches(0.0), delay_seconds=0.3) as it:
            started = time.monotonic()
            await asyncio.gather(*(it.ask(number) for number in range(3)))
            assert time.monotonic() - started < 0.3
            started = time.monotonic()
            await it.ask(3)
            assert time.monotonic() - started >= 0.3
            assert it.runner.calls == [[0, 1, 2], [3]]

    run(test)


def test_the_limit_follows_impatient_clients_and_recovers() -> None:
    patience = Patience(10.0)
    for _ in range(16):
        patience.given_up(2.0, 100.0)
        patience.served()
    assert patience.limit(100.0) == 10.0  # no more than half of them
    for _ in range(2):
        patience.given_up(2.0, 101.0)
    assert patience.limit(101.0) == 0.5
    for moment in range(102, 200):  # a lasting overload
        patience.refused(moment)
    assert patience.limit(209.0) == 0.5
    assert patience.limit(219.0) == 1.0
    assert patience.limit(300.0) == 10.0
    assert not patience.is_lowered(300.0)


def test_long_calls_that_save_no_time_get_smaller() -> None:
    size = BatchSize()
    size.observe(1, 0.1)
    size.observe(32, 3.2)  # each as slow as alone
    assert size.limit(64) == 16
    size.observe(16, 0.2)
    assert size.limit(64) == 16
    size.observe(16, 0.05)
    assert size.limit(64) == 32
    fixed = BatchSize()
    fixed.observe(1, 1.0)
    fixed.observe(64, 1.0)  # a cost per call only
    assert fixed.limit(64) == 64
