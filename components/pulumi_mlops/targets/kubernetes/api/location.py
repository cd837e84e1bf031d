"""The location of a stack: kubeconfig, context and namespace."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ....sources import from_project


@dataclass(frozen=True)
class Where:
    """The settings of `mlops:kubernetes` that a connection needs."""

    namespace: str = "mlops"
    context: str | None = None
    kubeconfig: str | None = None

    @classmethod
    def of(cls, text: str | None) -> Where:
        """Read the configuration of the resource plugin, which the Pulumi program has validated."""
        try:
            settings = json.loads(text) if text else {}
        except ValueError:
            settings = {}
        if not isinstance(settings, dict):
            settings = {}
        fields = {key: settings[key] for key in cls.__dataclass_fields__ if settings.get(key)}
        if "kubeconfig" in fields:
            fields["kubeconfig"] = str(from_project(fields["kubeconfig"]))
        return cls(**fields)
