"""Labels of objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Manifest = dict[str, Any]


def labels(stack: str, name: str, component: str) -> dict[str, str]:
    """The recommended labels (kubernetes.io, "Recommended Labels")."""
    return {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/instance": stack,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "mlops-platform",
        "app.kubernetes.io/managed-by": "pulumi-mlops",
    }


def selector(all_labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that select the pods of one workload. They are immutable."""
    return {
        key: all_labels[key] for key in ("app.kubernetes.io/name", "app.kubernetes.io/instance")
    }
