"""The status document from scrapes at known times, the page and the HTTP answers made of it."""

import ast
import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pulumi_mlops.runtime import monitor
from pulumi_mlops.runtime.monitor import app, page, status, text
from pulumi_mlops.runtime.monitor.config import Config, ScrapeTarget
from pulumi_mlops.runtime.monitor.exposition import parse
from pulumi_mlops.runtime.monitor.scrape import ScrapeResult
from pulumi_mlops.runtime.monitor.watcher import Watcher


class Client:
    """Asks the application directly; its lifespan, so its loop, does not run."""

    def __init__(self, watcher: Watcher) -> None:
        self.app = app.create(watcher)

    def get(self, path: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://monitor") as client:
                return await client.get(path)

        return asyncio.run(ask())


LABELS = 'endpoint="penguins",model="penguins"'


class Scene:
    """A watcher whose clock and scrapes are the test's."""

    def __init__(self, *targets: ScrapeTarget, interval: float = 5.0) -> None:
        self.now = 1000.0
        self.watcher = Watcher(
            Config(port=9000, targets=targets, stack="dev", interval=interval),
            clock=lambda: self.now,
            wall=lambda: self.now + 1.7e9,
        )

    def scrape(self, index: int, body: str) -> None:
        result = ScrapeResult("up", 0.01, 0.01, None, parse(body))
        self.watcher.record(self.watcher.watched[index], result)

    def fail(self, index: int) -> None:
        result = ScrapeResult("down", 0.01, None, "metrics: connection refused")
        self.watcher.record(self.watcher.watched[index], result)

    def versions(self) -> dict[str, dict[str, Any]]:
        (endpoint,) = status.build(self.watcher)["endpoints"]
        return {version["version"]: version for version in endpoint["versions"]}


def server(version: str, ok: int, failed: int = 0, slow: int = 0) -> str:
    """A model server: ``ok`` requests within 10 ms, ``slow`` beyond the last bucket."""
    labels = f'{LABELS},version="{version}"'
    total = ok + failed + slow
    return f"""
# TYPE mlops_model_info gauge
mlops_model_info{{{labels}}} 1
# TYPE mlops_inference_requests_total counter
mlops_inference_requests_total{{{labels},code="200"}} {ok + slow}
mlops_inference_requests_total{{{labels},code="500"}} {failed}
# TYPE mlops_inference_duration_seconds histogram
mlops_inference_duration_seconds_bucket{{{labels},le="0.01"}} {ok + failed}
mlops_inference_duration_seconds_bucket{{{labels},le="1.0"}} {ok + failed}
mlops_inference_duration_seconds_bucket{{{labels},le="+Inf"}} {total}
mlops_inference_duration_seconds_sum{{{labels}}} 1
mlops_inference_duration_seconds_count{{{labels}}} {total}
# TYPE mlops_predictions_total counter
mlops_predictions_total{{{labels},class="Adelie"}} {ok}
mlops_predictions_total{{{labels},class="Gentoo"}} {slow}
# TYPE mlops_prediction_log_written_total counter
mlops_prediction_log_written_total{{{labels}}} {ok}
# TYPE mlops_prediction_log_dropped_total counter
mlops_prediction_log_dropped_total{{{labels},reason="full"}} {failed}
"""


HAPROXY = """
# TYPE haproxy_server_weight gauge
haproxy_server_weight{proxy="penguins",server="v4-0"} 90
haproxy_server_weight{proxy="penguins",server="v3-0"} 10
haproxy_server_weight{proxy="penguins",server="v2-0"} 50
haproxy_server_weight{proxy="stats",server="other"} 50
# TYPE haproxy_server_status gauge
haproxy_server_status{proxy="penguins",server="v4-0",state="UP"} 1
haproxy_server_status{proxy="penguins",server="v3-0",state="DOWN"} 1
haproxy_server_status{proxy="penguins",server="v3-0",state="UP"} 0
haproxy_server_status{proxy="penguins",server="v2-0",state="MAINT"} 1
"""

ONE = ScrapeTarget("model", "v4-0", "http://127.0.0.1:1/metrics")
TWO = ScrapeTarget("model", "v3-0", "http://127.0.0.1:2/metrics?x=1", labels={"zone": "a"})
HEALTH = ScrapeTarget("tracking", "mlflow", None, "http://127.0.0.1:3/health")


def test_rates_errors_and_latency_of_known_counts() -> None:
    scene = Scene(ONE)
    scene.scrape(0, server("4", ok=1000))
    scene.now += 10
    scene.scrape(0, server("4", ok=1080, failed=20))
    version = scene.versions()["4"]
    assert version["requests_per_second"] == pytest.approx(10)
    assert version["error_ratio"] == pytest.approx(0.2)
    assert version["latency_seconds"]["p50"] == pytest.approx(0.005)
    assert version["latency_seconds"]["highest_bound"] == 1
    assert version["classes"] == [{"class": "Adelie", "count": 80, "share": 1}]
    (log,) = status.build(scene.watcher)["prediction_logs"]
    assert (log["written_total"], log["dropped_total"]) == (1080, 20)
    assert (log["written_per_second"], log["dropped_recently"]) == (8, 20)


def test_no_traffic_is_neither_an_error_ratio_nor_unknown() -> None:
    scene = Scene(ONE)
    scene.scrape(0, server("4", ok=1000, failed=50))
    before = scene.versions()["4"]
    assert before["requests_per_second"] is None
    scene.now += 10
    scene.scrape(0, server("4", ok=1000, failed=50))
    version = scene.versions()["4"]
    assert version["requests_per_second"] == 0
    assert version["error_ratio"] is None
    assert version["latency_seconds"]["p95"] is None
    assert version["share_seen"] is None
    html = page.fragment(status.build(scene.watcher))
    assert html.count(text.NO_TRAFFIC) >= 3
    assert re.search(r"data-label=\"Errors\">[^<]*0.%", html) is None


def test_role_follows_from_the_weights_of_the_route() -> None:
    scene = Scene(ONE, TWO, HEALTH)
    scene.scrape(0, server("4", ok=10))
    scene.scrape(1, server("3", ok=10))
    scene.scrape(2, HAPROXY.replace('server="v3-0"} 10', 'server="v3-0"} 0'))
    html = page.fragment(status.build(scene.watcher))
    roles = dict(re.findall(r'v(\d) <span class="role">(\w+)</span>', html))
    assert roles == {"3": "warm", "4": "live"}
    scene.scrape(2, HAPROXY)
    html = page.fragment(status.build(scene.watcher))
    assert dict(re.findall(r'v(\d) <span class="role">(\w+)</span>', html)) == {
        "3": "canary", "4": "live",
    }  # fmt: skip


def test_role_is_unknown_without_a_route() -> None:
    scene = Scene(ONE)
    scene.scrape(0, server("4", ok=10))
    assert scene.versions()["4"]["role"] is None


def test_a_restart_gives_no_negative_rate() -> None:
    scene = Scene(ONE)
    for ok in (500, 600, 20, 40):
        scene.scrape(0, server("4", ok=ok))
        scene.now += 10
    version = scene.versions()["4"]
    assert version["requests_per_second"] == pytest.approx((100 + 20 + 20) / 30)
    drawn = [value for value in version["history"]["requests_per_second"] if value is not None]
    assert min(drawn) >= 0


def test_a_target_that_is_gone_is_unknown_after_the_window() -> None:
    scene = Scene(ONE)
    for ok in (0, 100):
        scene.now += 10
        scene.scrape(0, server("4", ok=ok))
    scene.now += 120
    scene.fail(0)
    assert scene.versions()["4"]["requests_per_second"] is None
    document = status.build(scene.watcher)
    assert (document["state"], document["summary"]) == ("attention", "v4-0 is down")
    assert text.NO_DATA in page.fragment(document)


def test_share_seen_and_share_configured() -> None:
    route = ScrapeTarget("route", "route", "http://127.0.0.1:4/metrics")
    scene = Scene(ONE, TWO, route)
    for count in (0, 30):
        scene.now += 10
        scene.scrape(0, server("4", ok=2 * count))
        scene.scrape(1, server("3", ok=count))
        scene.scrape(2, HAPROXY)
    versions = scene.versions()
    assert list(versions) == ["4", "3"]
    assert versions["4"]["share_seen"] == pytest.approx(2 / 3)
    assert versions["3"]["share_seen"] == pytest.approx(1 / 3)
    assert versions["4"]["share_configured"] == pytest.approx(0.9)
    assert versions["4"]["servers"] == {"up": 1, "total": 1}
    assert versions["3"]["servers"] == {"up": 0, "total": 1}


def test_replicas_of_a_version_are_one_row() -> None:
    scene = Scene(ONE, TWO)
    for count in (0, 50):
        scene.now += 10
        scene.scrape(0, server("4", ok=count))
        scene.scrape(1, server("4", ok=count, slow=count))
    version = scene.versions()["4"]
    assert version["requests_per_second"] == pytest.approx(15)
    assert version["latency_seconds"]["p95"] == 1
    assert "≥" in page.fragment(status.build(scene.watcher))


def test_stale_is_said_and_health_fails() -> None:
    scene = Scene(HEALTH)
    scene.watcher.record(scene.watcher.watched[0], ScrapeResult("up", 0.1, 0.1))
    client = Client(scene.watcher)
    assert client.get("/health").status_code == 200
    scene.now += 15.5
    answer = client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "stale")
    assert "These figures are stale" in client.get("/fragment").text
    assert client.get("/api/status").json()["state"] == "stale"


def test_hostile_names_are_text_on_the_page() -> None:
    scene = Scene(ScrapeTarget("<b>job</b>", '"><script>x</script>', "http://h/"))
    body = server("4", ok=1).replace("penguins", "<script>alert(1)</script>")
    for _ in range(2):
        scene.scrape(0, body.replace("Adelie", "<img src=x onerror=x>"))
        scene.now += 5
        body = body.replace("} 1", "} 2")
    html = page.document(status.build(scene.watcher), {"<i>": "http://h/?a=1&b=\"'>"})
    assert "&lt;script&gt;alert(1)" in html
    assert "&lt;img src=x" in html
    assert html.count("<script") == 1
    assert not re.search(r"<(img|b|i)[ >]", html)


def test_federation_has_all_targets_and_every_family_once() -> None:
    scene = Scene(ONE, TWO, HEALTH)
    scene.scrape(0, server("4", ok=1))
    scene.scrape(1, server("3", ok=2))
    scene.watcher.record(scene.watcher.watched[2], ScrapeResult("down", 0.1, None, "health: no"))
    client = Client(scene.watcher)
    answer = client.get("/federate")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    names = re.findall(r"^# TYPE (\S+)", answer.text, re.MULTILINE)
    assert len(names) == len(set(names))
    found = {
        (s.name, s.labels["job"], s.labels["instance"]): s
        for family in text_string_to_metric_families(answer.text)
        for s in family.samples
    }
    assert found["mlops_model_info", "model", "v4-0"].labels["version"] == "4"
    assert found["mlops_model_info", "model", "v3-0"].labels["zone"] == "a"
    assert found["up", "tracking", "mlflow"].value == 0
    assert found["up", "model", "v4-0"].value == 1
    assert found["up", "model", "v3-0"].labels["zone"] == "a"
    assert found["mlops_monitor_series", "monitor", "127.0.0.1:9000"].value == 18
    own = client.get("/metrics").text
    assert "mlops_monitor_last_success_timestamp_seconds" in own
    assert "mlops_model_info" not in own


def test_service_discovery_is_what_prometheus_reads() -> None:
    client = Client(Scene(ONE, TWO, HEALTH).watcher)
    answer = client.get("/sd")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()[1] == {
        "targets": ["127.0.0.1:2"],
        "labels": {
            "__scheme__": "http",
            "__metrics_path__": "/metrics",
            "__param_x": "1",
            "job": "model",
            "instance": "v3-0",
            "zone": "a",
        },
    }
    assert len(answer.json()) == 2


def test_the_page_needs_nothing_from_elsewhere() -> None:
    client = Client(Scene().watcher)
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    for path in re.findall(r'(?:src|href)="([^"#]+)"', answer.text):
        if path != "data:,":
            assert not re.match(r"\w+:|//", path)
            assert client.get(f"/{path}").status_code == 200


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (None, text.NONE), (0, "0 %"), (0.00001, "< 0.1 %"), (0.012, "1.2 %"), (0.5, "50 %"),
        (0.996, "99.6 %"), (0.99999, "> 99.9 %"), (1, "100 %"),
    ],
)  # fmt: skip
def test_a_share_that_is_not_none_or_all_does_not_read_so(share: float, words: str) -> None:
    assert text.percent(share).replace(text.SPACE, " ") == words


def test_imports_are_only_what_its_requirements_install() -> None:
    """It runs where pulumi_mlops is only a folder with runtime/ in it, without pulumi."""
    folder = Path(monitor.__file__).parent
    required = (folder.parent / "requirements-monitor.txt").read_text()
    allowed = {"uvicorn", "starlette", "httpx", "prometheus_client"} | sys.stdlib_module_names
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                assert not isinstance(node, ast.ImportFrom) or node.level == 1, path
                continue
            for name in names:
                assert name.split(".")[0] in allowed, f"{path.name} imports {name}"
    for name in ("uvicorn", "starlette", "httpx", "prometheus-client"):
        assert re.search(rf"^{name}==", required, re.MULTILINE)
    lock = Path(__file__).parents[2] / "requirements.lock"
    pins = {line.split()[0] for line in lock.read_text().splitlines() if "==" in line}
    assert set(re.findall(r"^\S+==\S+", required, re.MULTILINE)) <= pins


QUALITY = """
# TYPE mlops_model_quality_ratio gauge
mlops_model_quality_ratio{endpoint="penguins",version="3",window="60s",slice="all",metric="auc"} 0.9
mlops_model_quality_ratio{endpoint="penguins",version="3",window="60s",slice="a=1",metric="auc"} 0.1
# TYPE mlops_model_quality_low gauge
mlops_model_quality_low{endpoint="penguins",version="3",window="60s",slice="all",metric="auc"} 0.85
# TYPE mlops_model_quality_high gauge
mlops_model_quality_high{endpoint="penguins",version="3",window="60s",slice="all",metric="auc"} 0.95
# TYPE mlops_label_coverage_ratio gauge
mlops_label_coverage_ratio{endpoint="penguins",version="3"} 0.5
# TYPE mlops_model_quality_window_end_timestamp_seconds gauge
mlops_model_quality_window_end_timestamp_seconds{endpoint="penguins",version="3"} 1700000700
"""


def test_the_quality_of_an_endpoint_is_shown() -> None:
    scene = Scene(ScrapeTarget("quality", "q", "http://q"))
    assert "<h2>Quality</h2>" not in page.fragment(status.build(scene.watcher))
    scene.scrape(0, QUALITY)
    document = status.build(scene.watcher)
    assert document["quality"] == [
        {
            "endpoint": "penguins", "version": "3", "coverage": 0.5, "drift_ratio": None,
            "window_end": 1700000700.0,
            "metrics": {"auc": {"value": 0.9, "low": 0.85, "high": 0.95}},
        }
    ]  # fmt: skip
    html = page.fragment(document)
    assert "AUC 0.9 <small>0.85 to 0.95</small>" in html
    assert f"5{text.SPACE}min ago" in html
    assert document["endpoints"] == []
