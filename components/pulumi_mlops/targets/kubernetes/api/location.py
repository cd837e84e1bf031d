"""Which cluster and namespace to connect to."""

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
        """From the configuration of the resource plugin, which the program has validated."""
        try:
            found = json.loads(text) if text else {}
        except ValueError:
            found = {}
        if not isinstance(found, dict):
            found = {}
        known = {key: found[key] for key in cls.__dataclass_fields__ if found.get(key)}
        if "kubeconfig" in known:
            known["kubeconfig"] = str(from_project(known["kubeconfig"]))
        return cls(**known)
