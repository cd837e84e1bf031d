"""The monitor's configuration, read from environment variables.

========================  ======================================================================
``HOST``                  address to listen on; default ``127.0.0.1``
``PORT``                  port to listen on; required
``MLOPS_STACK``           name of the stack, the title of the dashboard; default ``mlops``
``MLOPS_TARGETS``         JSON list of targets, see :class:`ScrapeTarget`
``MLOPS_TARGETS_DIR``     folder of JSON files, each with a target or a list of targets. It is read
                          again when a file changes, without a restart and loss of history. This
                          or ``MLOPS_TARGETS`` is required
``MLOPS_LINKS``           JSON object of link text to ``http(s)`` URL for the dashboard; optional
``MLOPS_SCRAPE_INTERVAL`` seconds between two scrapes of a target, 0.1 to 300; default 5
========================  ======================================================================
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED = ("job", "instance")
_FIELDS = ("job", "instance", "url", "health_url", "labels")


class ConfigError(ValueError):
    """A variable is missing or invalid. The message is one line with the variable and the fix."""


@dataclass(frozen=True)
class ScrapeTarget:
    """A service to scrape. ``url``, ``health_url`` or both are required.

    As in Prometheus, ``job`` is the kind of service and ``instance`` the name of one; the pair is
    unique and becomes labels of all its samples. ``url`` returns metrics in Prometheus' text
    format, ``health_url`` a 2xx status while the service is healthy. ``labels`` are added to its
    samples.
    """

    job: str
    instance: str
    url: str | None = None
    health_url: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.job, self.instance))

    @property
    def identity(self) -> dict[str, str]:
        """The labels of every sample of this target."""
        return {"job": self.job, "instance": self.instance, **self.labels}


@dataclass(frozen=True)
class Config:
    """The configuration; the table of the module describes the fields."""

    port: int
    targets: tuple[ScrapeTarget, ...]
    host: str = "127.0.0.1"
    stack: str = "mlops"
    links: Mapping[str, str] = field(default_factory=dict)
    interval: float = 5.0
    targets_dir: Path | None = None


def load(environ: Mapping[str, str]) -> Config:
    """Read the configuration. Raises :class:`ConfigError`."""
    return Config(
        host=environ.get("HOST") or "127.0.0.1",
        port=_port(environ.get("PORT", "")),
        stack=environ.get("MLOPS_STACK") or "mlops",
        targets=_targets(environ),
        targets_dir=_folder(environ),
        links=_links(environ.get("MLOPS_LINKS") or "{}"),
        interval=_interval(environ.get("MLOPS_SCRAPE_INTERVAL") or "5"),
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ConfigError(f"PORT: must be a whole number from 1 to 65535, not {text!r}")
    return int(text)


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 300:
        raise ConfigError(f"MLOPS_SCRAPE_INTERVAL: must be 0.1 to 300 seconds, not {text!r}")
    return seconds


def _json(variable: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{variable}: is not JSON: {error}") from None


def _folder(environ: Mapping[str, str]) -> Path | None:
    folder = environ.get("MLOPS_TARGETS_DIR")
    return Path(folder) if folder else None


def _targets(environ: Mapping[str, str]) -> tuple[ScrapeTarget, ...]:
    text, folder = environ.get("MLOPS_TARGETS"), _folder(environ)
    if folder is not None:
        return read_targets(folder)
    if text is None:
        raise ConfigError('MLOPS_TARGETS: is not set; set it to a JSON list, "[]" for no targets')
    items = _json("MLOPS_TARGETS", text)
    if not isinstance(items, list):
        raise ConfigError("MLOPS_TARGETS: must be a JSON list of objects")
    return _unique([(f"MLOPS_TARGETS[{i}]", item) for i, item in enumerate(items)])


def read_targets(folder: Path) -> tuple[ScrapeTarget, ...]:
    """The targets in the JSON files of ``folder``. Raises :class:`ConfigError`."""
    if not folder.is_dir():
        raise ConfigError(f"MLOPS_TARGETS_DIR: {folder} is not a folder")
    entries: list[tuple[str, object]] = []
    for file in sorted(folder.glob("*.json")):
        content = _json(file.name, file.read_text())
        items = content if isinstance(content, list) else [content]
        entries += [(f"{file.name}[{i}]", item) for i, item in enumerate(items)]
    return _unique(entries)


def fingerprint(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """A value that differs after a JSON file in ``folder`` was added, removed or changed."""
    files = sorted(folder.glob("*.json"))
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def _unique(items: Sequence[tuple[str, object]]) -> tuple[ScrapeTarget, ...]:
    targets = tuple(_target(where, item) for where, item in items)
    seen: set[tuple[str, str]] = set()
    for (where, _), target in zip(items, targets, strict=True):
        key = (target.job, target.instance)
        if key in seen:
            raise ConfigError(
                f"{where}.instance: {target.instance!r} occurs twice in job "
                f"{target.job!r}; give each instance of a job its own name"
            )
        seen.add(key)
    return targets


def _target(where: str, item: object) -> ScrapeTarget:
    if not isinstance(item, dict):
        raise ConfigError(f"{where}: must be an object with {', '.join(_FIELDS)}")
    for name in item:
        if name not in _FIELDS:
            raise ConfigError(f"{where}.{name}: is not a field; allowed are {', '.join(_FIELDS)}")
    for name in ("job", "instance"):
        if not isinstance(item.get(name), str) or not item[name]:
            raise ConfigError(f"{where}.{name}: must be a non-empty string")
    url = _url(f"{where}.url", item.get("url"))
    health_url = _url(f"{where}.health_url", item.get("health_url"))
    if url is None and health_url is None:
        raise ConfigError(f"{where}.url: is missing; set url, health_url or both")
    labels = item.get("labels", {})
    if not isinstance(labels, dict):
        raise ConfigError(f"{where}.labels: must be an object of strings")
    for name, value in labels.items():
        if not _LABEL.fullmatch(name) or name in _RESERVED or name.startswith("__"):
            raise ConfigError(
                f"{where}.labels.{name}: is not a valid label name; use letters, digits and _, "
                "not job, instance or a name that starts with __"
            )
        if not isinstance(value, str):
            raise ConfigError(f"{where}.labels.{name}: must be a string")
    return ScrapeTarget(item["job"], item["instance"], url, health_url, labels)


def _url(where: str, value: object) -> str | None:
    """Check an optional URL. The error does not repeat it because it may contain a password."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ConfigError(f"{where}: must be a string or null")
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"{where}: must be an absolute http or https URL")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{where}: must not contain a user or password")
    return value


def _links(text: str) -> dict[str, str]:
    links = _json("MLOPS_LINKS", text)
    if not isinstance(links, dict):
        raise ConfigError("MLOPS_LINKS: must be a JSON object of link text to URL")
    checked = {}
    for name, value in links.items():
        url = _url(f"MLOPS_LINKS.{name}", value)
        if url is None:
            raise ConfigError(f"MLOPS_LINKS.{name}: must be an absolute http or https URL")
        checked[name] = url
    return checked
