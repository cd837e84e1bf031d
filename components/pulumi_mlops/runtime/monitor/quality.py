"""The quality of endpoints on the dashboard, from the metrics of the quality service."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from . import text
from .watcher import Watched

COLUMNS = ["Model", "Quality (95 % interval)", "Labels", "Features with drift", "Window ended"]
NAMES = {
    "accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1", "auc": "AUC",
    "log_loss": "log loss", "rmse": "RMSE", "mae": "MAE", "r2": "R²",
}  # fmt: skip
_BOUNDS = {
    "mlops_model_quality_ratio": "value",
    "mlops_model_quality_loss": "value",
    "mlops_model_quality_low": "low",
    "mlops_model_quality_high": "high",
}
_PARTS = {
    "mlops_label_coverage_ratio": "coverage",
    "mlops_dataset_drift_ratio": "drift_ratio",
    "mlops_model_quality_window_end_timestamp_seconds": "window_end",
}


def collect(watched: Iterable[Watched]) -> list[dict[str, Any]]:
    """The last final window of each version, without its slices. Part of the status document."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for sample in (sample for one in watched for sample in one.samples):
        labels = sample.labels
        bound, part = _BOUNDS.get(sample.name), _PARTS.get(sample.name)
        if (bound or part) and {"endpoint", "version"} <= labels.keys():
            key = labels["endpoint"], labels["version"]
            row = found.setdefault(key, {
                "endpoint": key[0], "version": key[1], "metrics": defaultdict(dict),
                "coverage": None, "drift_ratio": None, "window_end": None,
            })  # fmt: skip
            if part is not None:
                row[part] = sample.value
            elif labels.get("slice") == "all" and labels.get("metric") in NAMES:
                row["metrics"][labels["metric"]][bound] = sample.value
    return [found[key] for key in sorted(found)]


def rows(status: Mapping[str, Any]) -> list[list[str]]:
    """The cells of the table, as HTML."""
    return [
        [
            f"{escape(each['endpoint'])} v{escape(each['version'])}",
            _metrics(each["metrics"]) or text.NO_DATA,
            text.percent(each["coverage"]),
            text.percent(each["drift_ratio"]),
            f"{text.duration(status['time'] - each['window_end'])} ago"
            if each["window_end"]
            else text.NONE,
        ]
        for each in status["quality"]
    ]


def _metrics(metrics: Mapping[str, Mapping[str, float]]) -> str:
    return "<br>".join(
        f"{NAMES[name]} {metrics[name]['value']:.3g}"
        f" <small>{metrics[name]['low']:.3g} to {metrics[name]['high']:.3g}</small>"
        for name in NAMES
        if {"value", "low", "high"} <= metrics.get(name, {}).keys()
    )
