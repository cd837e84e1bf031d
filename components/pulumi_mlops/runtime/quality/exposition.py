"""The metrics of the quality service for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pulumi_mlops.runtime.quality import database as db
from pulumi_mlops.runtime.quality import results
from pulumi_mlops.runtime.quality.delays import LabelDelay
from pulumi_mlops.runtime.quality.evaluation import LOSSES
from pulumi_mlops.runtime.quality.labels import OUTCOMES
from pulumi_mlops.runtime.quality.settings import MonitoredEndpoint

ROWS = ("read", "repeated", "malformed")
ALL = "all"
"""The label `slice` of the metrics of a whole window."""
_KPI = ["endpoint", "version", "window", "slice", "metric"]


def families(
    connection: sa.Connection,
    delays: Iterable[tuple[MonitoredEndpoint, LabelDelay]],
    last_success: Mapping[str, float],
) -> Iterator[Metric]:
    """All metrics: of the last final window of each version, and counters."""
    labels = CounterMetricFamily(
        "mlops_labels", "Labels by outcome.", labels=["endpoint", "outcome"]
    )
    rows = CounterMetricFamily(
        "mlops_quality_rows", "Rows of the prediction log by outcome.",
        labels=["endpoint", "outcome"],
    )  # fmt: skip
    lag = GaugeMetricFamily(
        "mlops_label_lag_seconds", "Delay of labels after their predictions.",
        labels=["endpoint", "quantile"],
    )  # fmt: skip
    measured = _Measured()
    for endpoint, delay in delays:
        counts = db.counts(connection, endpoint.name)
        for outcome in OUTCOMES:
            labels.add_metric([endpoint.name, outcome], counts.get(f"labels_{outcome}", 0))
        for outcome in ROWS:
            rows.add_metric([endpoint.name, outcome], counts.get(f"rows_{outcome}", 0))
        if delay.labels:
            lag.add_metric([endpoint.name, "0.5"], delay.median)
            lag.add_metric([endpoint.name, "0.95"], delay.p95)
        for version in results.versions(connection, endpoint):
            for row in results.windows(connection, endpoint, version, 1, final=True):
                measured.add_quality(endpoint, version, row)
            if (drift := results.latest_drift(connection, endpoint, version)) is not None:
                measured.add_drift(endpoint, version, drift)
    success = GaugeMetricFamily(
        "mlops_monitor_last_success_timestamp_seconds", "End of the last complete pass.",
        labels=["monitor"],
    )  # fmt: skip
    success.add_metric(["quality"], min(last_success.values()))
    of_endpoint = GaugeMetricFamily(
        "mlops_quality_last_success_timestamp_seconds",
        "End of the last pass of the endpoint that succeeded.",
        labels=["endpoint"],
    )
    for name, time in last_success.items():
        of_endpoint.add_metric([name], time)
    yield from (labels, rows, lag, *measured.families(), success, of_endpoint)


class _Measured:
    """The gauges of the results of windows."""

    def __init__(self) -> None:
        self.values = {
            "ratio": GaugeMetricFamily(
                "mlops_model_quality_ratio", "Quality in the last final window.", labels=_KPI
            ),
            "loss": GaugeMetricFamily(
                "mlops_model_quality_loss", "Loss or error in the last final window.", labels=_KPI
            ),
            "low": GaugeMetricFamily(
                "mlops_model_quality_low", "Lower bound of the 95 % interval.", labels=_KPI
            ),
            "high": GaugeMetricFamily(
                "mlops_model_quality_high", "Upper bound of the 95 % interval.", labels=_KPI
            ),
        }
        version = ["endpoint", "version"]
        self.end = GaugeMetricFamily(
            "mlops_model_quality_window_end_timestamp_seconds", "End of the last final window.",
            labels=version,
        )  # fmt: skip
        self.coverage = GaugeMetricFamily(
            "mlops_label_coverage_ratio", "Share of predictions with a label in that window.",
            labels=version,
        )  # fmt: skip
        self.score = GaugeMetricFamily(
            "mlops_feature_drift_score", "Distance of a feature from its reference.",
            labels=[*version, "feature", "method"],
        )  # fmt: skip
        self.drifted = GaugeMetricFamily(
            "mlops_dataset_drift_ratio", "Share of the features with drift.", labels=version
        )

    def families(self) -> Iterator[Metric]:
        """All gauges."""
        yield from (*self.values.values(), self.end, self.coverage, self.score, self.drifted)

    def add_quality(self, endpoint: MonitoredEndpoint, version: str, row: Any) -> None:
        """The results of a final window."""
        self.end.add_metric([endpoint.name, version], row.end)
        self.coverage.add_metric([endpoint.name, version], row.labels / row.predictions)
        parts = {ALL: row.quality["metrics"]}
        parts |= {name: part["metrics"] for name, part in row.quality["slices"].items()}
        for name, found in parts.items():
            for metric, estimate in found.items():
                series = [endpoint.name, version, f"{endpoint.window:g}s", name, metric]
                kind = "loss" if metric in LOSSES else "ratio"
                self.values[kind].add_metric(series, estimate["value"])
                self.values["low"].add_metric(series, estimate["low"])
                self.values["high"].add_metric(series, estimate["high"])

    def add_drift(self, endpoint: MonitoredEndpoint, version: str, found: dict[str, Any]) -> None:
        """The drift of a window."""
        for each in [*found["features"], *([found["prediction"]] if found["prediction"] else [])]:
            self.score.add_metric(
                [endpoint.name, version, each["feature"], each["method"]], each["score"]
            )
        self.drifted.add_metric([endpoint.name, version], found["dataset_drift_ratio"])
