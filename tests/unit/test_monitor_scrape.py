"""Looking at targets over real HTTP: what is read, what is refused, and that nobody waits."""

import asyncio
import contextlib
import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pulumi_mlops.runtime.monitor import scrape
from pulumi_mlops.runtime.monitor.config import Config, ScrapeTarget
from pulumi_mlops.runtime.monitor.scrape import ScrapeResult, new_client, scrape_target
from pulumi_mlops.runtime.monitor.watcher import Watcher

Answer = Callable[[BaseHTTPRequestHandler], None]


def text(body: bytes, code: int = 200, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


class Service:
    """A real HTTP server whose paths answer as told."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.seen: list[str] = []
        self.release = threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reused = getattr(self, "reused", -1) + 1
                if self.reused:  # the server's idle timeout, at the worst of times
                    self.close_connection = True
                    return
                service.seen.append(self.path)
                with contextlib.suppress(OSError):  # the monitor hung up, as it should
                    service.answers[self.path](self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str, answer: Answer) -> str:
        self.answers[path] = answer
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def hang(self, request: BaseHTTPRequestHandler) -> None:
        self.release.wait()

    def drip(self, request: BaseHTTPRequestHandler) -> None:
        """Send a little again and again, so that no single read times out."""
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        while not self.release.wait(0.02):
            request.wfile.write(b"# \n")
            request.wfile.flush()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.release.set()
    service.server.shutdown()
    service.server.server_close()


def look_at(url: str | None, health_url: str | None = None, timeout: float = 30.0) -> ScrapeResult:
    async def run() -> ScrapeResult:
        async with new_client() as client:
            return await scrape_target(client, ScrapeTarget("job", "one", url, health_url), timeout)

    return asyncio.run(run())


GOOD = text(b"# TYPE a gauge\na 1\n", Content_Type="text/plain; version=0.0.4")


def test_healthy_with_metrics(service: Service) -> None:
    result = look_at(service.url("/metrics", GOOD), service.url("/health", text(b"")))
    assert (result.state, result.error) == ("up", None)
    assert result.families is not None
    assert [family.name for family in result.families] == ["a"]
    assert result.latency_seconds is not None and result.latency_seconds > 0


def test_without_metrics_health_decides(service: Service) -> None:
    up = look_at(None, service.url("/ok", text(b"")))
    assert (up.state, up.families) == ("up", None)
    down = look_at(None, service.url("/bad", text(b"", 503)))
    assert (down.state, down.error) == ("down", "health: answered 503 Service Unavailable")


def test_healthy_without_readable_metrics_is_degraded(service: Service) -> None:
    result = look_at(service.url("/metrics", text(b"<html>\n")), service.url("/health", text(b"")))
    assert result.state == "degraded"
    assert result.error is not None
    assert result.error.startswith("metrics: not Prometheus text format")


def test_the_metrics_of_a_server_that_drains_still_count(service: Service) -> None:
    result = look_at(service.url("/metrics", GOOD), service.url("/ready", text(b"", 503)))
    assert result.state == "down"
    assert result.families is not None


def test_a_server_that_closes_idle_connections_is_not_down(service: Service) -> None:
    target = ScrapeTarget("job", "one", service.url("/metrics", GOOD))

    async def run() -> list[str]:
        async with new_client() as client:
            return [(await scrape_target(client, target, 30.0)).state for _ in range(3)]

    assert asyncio.run(run()) == ["up", "up", "up"]


def test_nobody_listens() -> None:
    result = look_at("http://127.0.0.1:9/metrics")
    assert result.error == "metrics: connection refused or host not found"


def test_redirects_are_not_followed(service: Service) -> None:
    elsewhere = service.url("/elsewhere", GOOD)
    result = look_at(service.url("/metrics", text(b"", 302, Location=elsewhere)))
    assert result.error == "metrics: answered 302; redirects are not followed"
    assert service.seen == ["/metrics"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (text(b"\xff 1\n"), "not Prometheus text format: not UTF-8"),
        (
            text(b"a 1\n# EOF\n", Content_Type="application/openmetrics-text; version=1.0.0"),
            "answered in the OpenMetrics format",
        ),
        (
            text(gzip.compress(b"a 1\n"), Content_Encoding="gzip"),
            "answered with a compressed body; `Accept-Encoding: identity` was requested",
        ),
        (text(b"a 1\n" * (scrape.MAX_SAMPLES + 1)), "more than 20,000 samples"),
        (text(b"#" * (scrape.MAX_BODY_BYTES + 1)), "the response has more than 8 MiB"),
    ],
)
def test_what_is_refused(service: Service, answer: Answer, error: str) -> None:
    result = look_at(service.url("/metrics", answer))
    assert result.state == "down"
    assert result.error is not None
    assert result.error.startswith(f"metrics: {error}")


def test_a_body_that_drips_ends_at_the_timeout(service: Service) -> None:
    result = look_at(service.url("/metrics", service.drip), timeout=0.5)
    assert result.error == "metrics: no answer within 0.5 s"


def test_a_slow_target_does_not_delay_the_others(service: Service) -> None:
    targets = (
        ScrapeTarget("job", "slow", service.url("/slow", service.hang)),
        ScrapeTarget("job", "fast", service.url("/fast", GOOD)),
    )
    watcher = Watcher(Config(port=1, targets=targets, interval=10))

    async def run() -> None:
        task = asyncio.create_task(watcher.run())
        slow, fast = watcher.watched
        while fast.result is None:
            assert not task.done()
            await asyncio.sleep(0.01)
        assert fast.state == "up"
        assert slow.result is None
        task.cancel()

    asyncio.run(run())


def test_the_loop_keeps_going_and_sees_a_change(service: Service) -> None:
    watcher = Watcher(
        Config(
            port=1,
            targets=(ScrapeTarget("job", "one", service.url("/metrics", GOOD)),),
            interval=0.1,
        )
    )

    async def until(state: str, task: "asyncio.Task[None]") -> None:
        while watcher.watched[0].state != state:
            assert not task.done()
            await asyncio.sleep(0.01)

    async def run() -> None:
        task = asyncio.create_task(watcher.run())
        await until("up", task)
        since = watcher.watched[0].since
        service.answers["/metrics"] = text(b"", 500)
        await until("down", task)
        assert since is not None and watcher.watched[0].since is not None
        assert watcher.watched[0].since > since
        service.answers["/metrics"] = GOOD
        await until("up", task)
        task.cancel()

    asyncio.run(run())
    assert watcher.last_round is not None
    assert len(watcher.watched[0].history.times) >= 2
