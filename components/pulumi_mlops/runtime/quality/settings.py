"""The settings of the quality service, read from environment variables.

=========================  =====================================================================
``HOST``, ``PORT``         address to listen on
``MLOPS_ARTIFACT_STORE``   ``s3://bucket`` or a folder, with ``predictions/`` and ``labels/``
``MLOPS_DATABASE_URL``     SQLAlchemy URL of the database; a secret if it contains a password
``MLOPS_ENDPOINTS_DIR``    folder with one JSON file for each endpoint: a MonitoredEndpoint
``MLOPS_QUALITY_INTERVAL`` seconds between two passes over the log; default 15
=========================  =====================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal


class QualitySettingsError(ValueError):
    """A variable is missing or invalid. The message is one line with the variable and the fix."""


@dataclass(frozen=True, kw_only=True)
class MonitoredEndpoint:
    """The quality monitoring of one endpoint.

    ``window`` is in seconds, ``label_horizon`` in days. The inputs of ``EndpointQuality`` in the
    stack configuration have the same names and meaning.
    """

    name: str
    task: Literal["classification", "regression"]
    label: str = "label"
    classes: tuple[str, ...] = ()
    positive: str | None = None
    slices: tuple[str, ...] = ()
    window: float = 3600.0
    label_horizon: float = 30.0
    min_coverage: float = 0.1
    reference_rows: int = 1000
    min_samples: int = 500
    drift_alpha: float = 0.01

    @property
    def horizon_seconds(self) -> float:
        """``label_horizon`` in seconds."""
        return self.label_horizon * 86_400

    def window_start(self, time: float) -> float:
        """The start of the window that contains ``time``, a multiple of the window's length."""
        return time // self.window * self.window


@dataclass(frozen=True, kw_only=True)
class QualitySettings:
    """The settings; the table of the module describes the fields."""

    port: int
    store: str
    database_url: str
    endpoints: Mapping[str, MonitoredEndpoint]
    host: str = "127.0.0.1"
    interval: float = 15.0

    @property
    def grace(self) -> float:
        """Seconds after the end of a window within which its last predictions are read: the
        prediction log writes a file at least every 10 s."""
        return self.interval + 10.0


def load(environ: Mapping[str, str]) -> QualitySettings:
    """Read the settings. Raises :class:`QualitySettingsError`."""
    for variable in ("PORT", "MLOPS_ARTIFACT_STORE", "MLOPS_DATABASE_URL", "MLOPS_ENDPOINTS_DIR"):
        if not environ.get(variable):
            raise QualitySettingsError(f"{variable}: is not set")
    try:
        interval = float(environ.get("MLOPS_QUALITY_INTERVAL") or 15)
        port = int(environ["PORT"])
    except ValueError:
        raise QualitySettingsError("PORT, MLOPS_QUALITY_INTERVAL: must be numbers") from None
    endpoints = {}
    for file in sorted(Path(environ["MLOPS_ENDPOINTS_DIR"]).glob("*.json")):
        endpoint = _endpoint(file)
        endpoints[endpoint.name] = endpoint
    return QualitySettings(
        host=environ.get("HOST") or "127.0.0.1",
        port=port,
        store=environ["MLOPS_ARTIFACT_STORE"],
        database_url=environ["MLOPS_DATABASE_URL"],
        endpoints=endpoints,
        interval=interval,
    )


def _endpoint(file: Path) -> MonitoredEndpoint:
    try:
        values: dict[str, Any] = json.loads(file.read_text())
        for name in ("classes", "slices"):
            values[name] = tuple(values.get(name) or ())
        known = {field.name for field in fields(MonitoredEndpoint)}
        if unknown := values.keys() - known:
            raise QualitySettingsError(
                f"{file.name}: {', '.join(sorted(unknown))} is not a setting"
            )
        return MonitoredEndpoint(
            **{name: value for name, value in values.items() if value is not None}
        )
    except (TypeError, ValueError) as error:
        raise QualitySettingsError(f"{file.name}: {error}") from None
