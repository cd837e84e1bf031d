"""The server's Prometheus metrics: base units, bounded labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from pulumi_mlops.runtime.model_server.settings import ModelServerSettings
from pulumi_mlops.runtime.prediction_log import Stats

# The *_created series double the exposition, and nothing here reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LABELS = ("endpoint", "model", "version")
# Not the role of the version: it follows from the weights, which change without a restart.
OTHER = "other"
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHED_REASONS = ("full", "late", "gone")


class Metrics:
    """All metrics of one server; label children are made once, since finding one costs more than
    counting on it.
    """

    def __init__(
        self, settings: ModelServerSettings, log_stats: Callable[[], Stats] | None
    ) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        values = (settings.endpoint, settings.model_name, settings.model_version)
        self._values = values
        self._requests = Counter(
            "mlops_inference_requests",
            "Inference requests answered, by HTTP status code.",
            (*LABELS, "code"),
            registry=self.registry,
        )
        duration = Histogram(
            "mlops_inference_duration_seconds",
            "From the arrival of an inference request to its answer.",
            LABELS,
            buckets=BUCKETS,
            registry=self.registry,
        )
        in_progress = Gauge(
            "mlops_inference_in_progress",
            "Inference requests being answered.",
            LABELS,
            registry=self.registry,
        )
        shed = Counter(
            "mlops_inference_shed",
            "Requests that did not reach the model: full (refused at arrival), late (refused after "
            "the time limit of the queue), gone (the client closed the connection).",
            (*LABELS, "reason"),
            registry=self.registry,
        )
        batch_size = Histogram(
            "mlops_inference_batch_size",
            "Requests taken from the queue at once.",
            LABELS,
            buckets=BATCH_SIZES,
            registry=self.registry,
        )
        queue_length = Gauge(
            "mlops_inference_queue_length",
            "Requests waiting for the model.",
            LABELS,
            registry=self.registry,
        )
        self._predictions = Counter(
            "mlops_predictions",
            "Predicted rows by class, of models that answer classes.",
            (*LABELS, "class"),
            registry=self.registry,
        )
        self._info = Gauge(
            "mlops_model_info",
            "1 for the model served, once it is loaded.",
            (*LABELS, "uri"),
            registry=self.registry,
        )
        self._uri = settings.model_uri
        self.duration = duration.labels(*values)
        self.in_progress = in_progress.labels(*values)
        self.batch_size = batch_size.labels(*values)
        self.queue_length = queue_length.labels(*values)
        self._shed = {reason: shed.labels(*values, reason) for reason in SHED_REASONS}
        self._codes: dict[int, Any] = {}
        self._classes: dict[Any, Any] = {}
        self._max_classes = settings.max_classes
        self.count_request(200, 0)
        if log_stats is not None:
            self.registry.register(_LogCollector(log_stats, values))

    def count_request(self, code: int, amount: int = 1) -> None:
        """Count an answered request."""
        child = self._codes.get(code)
        if child is None:
            child = self._codes[code] = self._requests.labels(*self._values, str(code))
        child.inc(amount)

    def count_shed(self, reason: str) -> None:
        """Count a request that did not reach the model, by one of SHED_REASONS."""
        self._shed[reason].inc()

    def count_classes(self, classes: Iterable[Any]) -> None:
        """Count predicted classes; past the limit of distinct ones they are all ``other``."""
        for value in classes:
            child = self._classes.get(value)
            if child is None:
                if len(self._classes) < self._max_classes:
                    child = self._predictions.labels(*self._values, str(value))
                    self._classes[value] = child
                else:
                    child = self._predictions.labels(*self._values, OTHER)
            child.inc()

    def model_loaded(self) -> None:
        """Publish what is served."""
        self._info.labels(*self._values, self._uri).set(1)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


class _LogCollector(Collector):
    """The prediction log's counts, read when scraped."""

    def __init__(self, stats: Callable[[], Stats], values: tuple[str, ...]) -> None:
        self._stats = stats
        self._values = values

    def collect(self) -> Iterable[Metric]:
        stats = self._stats()
        prefix = "mlops_prediction_log"
        written = CounterMetricFamily(
            f"{prefix}_written", "Records written to the store.", labels=LABELS
        )
        written.add_metric(self._values, stats.written)
        dropped = CounterMetricFamily(
            f"{prefix}_dropped", "Records lost, by reason.", labels=(*LABELS, "reason")
        )
        for reason, count in (
            ("full", stats.dropped_full),
            ("shutdown", stats.dropped_shutdown),
            ("unencodable", stats.dropped_unencodable),
        ):
            dropped.add_metric((*self._values, reason), count)
        failures = CounterMetricFamily(
            f"{prefix}_flush_failures", "Failed attempts to write a file.", labels=LABELS
        )
        failures.add_metric(self._values, stats.flush_failures)
        damaged = CounterMetricFamily(
            f"{prefix}_damaged_files", "Files of the spool that are unreadable.", labels=LABELS
        )
        damaged.add_metric(self._values, stats.damaged_files)
        length = GaugeMetricFamily(
            f"{prefix}_queue_length", "Records waiting to be written.", labels=LABELS
        )
        length.add_metric(self._values, stats.queued)
        size = GaugeMetricFamily(
            f"{prefix}_queue_bytes", "Memory of the records waiting.", labels=LABELS
        )
        size.add_metric(self._values, stats.queued_bytes)
        return [written, dropped, damaged, failures, length, size]
