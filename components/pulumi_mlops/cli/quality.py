"""`mlops quality`, `mlops drift` and `mlops labels`: clients of the quality service."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from ..files import parse_exports
from ..runtime.net import is_loopback
from .selection import CommandError, UsageError, find_stack, named_stack, project_folder
from .terminal import Style, duration, table

_VARIABLE = "MLOPS_QUALITY_URL"
_CHUNK = 2000
_METRICS = ("accuracy", "precision", "recall", "f1", "auc", "log_loss", "rmse", "mae", "r2")


def run(options: argparse.Namespace) -> int:
    """Run the command that was named."""
    service = _Client(_url(options))
    if options.command == "labels":
        return _send(service, options.name, options.file)
    if options.command == "quality":
        document = service.get(options.name, "quality", limit=max(options.windows, 1))
        show = _show_quality
    else:
        document = service.get(options.name, "drift")
        show = _show_drift
    if options.json:
        print(json.dumps(document, indent=2))
    else:
        show(document, Style(sys.stdout))
    return 0


def _url(options: argparse.Namespace) -> str:
    """The address of the service: of the named stack, of the environment, or of the only stack."""
    if options.stack is None and (url := os.environ.get(_VARIABLE)):
        return url
    stack = find_stack(project_folder(options.project), named_stack(options.stack))
    file = stack.files / "files" / "client.env"
    variables = parse_exports(file.read_text()) if file.exists() else {}
    if _VARIABLE in variables:
        return variables[_VARIABLE]
    raise UsageError(
        f"{stack.name} has no quality service: declare `quality` for an endpoint and run "
        f"`pulumi up`, or set {_VARIABLE}"
    )


class _Client:
    """Requests to the quality service."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.Client(timeout=60, trust_env=not is_loopback(url))

    def get(self, endpoint: str, what: str, **query: int) -> dict[str, Any]:
        """A document of an endpoint."""
        return self._answer("GET", endpoint, what, params=query)

    def send(self, endpoint: str, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Send labels. Returns the count of each outcome."""
        return self._answer("POST", endpoint, "labels", json=items)

    def _answer(self, method: str, endpoint: str, what: str, **options: Any) -> dict[str, Any]:
        url = f"{self._url}/endpoints/{quote(endpoint, safe='')}/{what}"
        try:
            response = self._http.request(method, url, **options)
            document: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise CommandError(
                f"{self._url} does not answer ({type(error).__name__}): `mlops status` shows the "
                "services; an environment on a cluster needs `mlops connect -- mlops …`"
            ) from None
        if response.is_error and "error" in document:
            kind = UsageError if response.status_code == httpx.codes.NOT_FOUND else CommandError
            raise kind(str(document["error"]))
        return document


def _send(service: _Client, endpoint: str, file: Path) -> int:
    """Send the labels in parts, and print the count of each outcome."""
    items = _items(file)
    outcomes: Counter[str] = Counter()
    sent = 0
    while part := list(islice(items, _CHUNK)):
        answer = service.send(endpoint, part)
        for error in answer.pop("errors", []):
            place = sent + error["index"] + 1
            print(f"label {place}: {error['error']}", file=sys.stderr)
        outcomes.update(answer)
        sent += len(part)
    print(", ".join(f"{count} {name}" for name, count in outcomes.items() if count) or "no labels")
    return 1 if outcomes["invalid"] else 0


def _items(file: Path) -> Iterator[dict[str, Any]]:
    """The labels in a file. Raises UsageError with what is wrong."""
    try:
        if file.suffix == ".csv":
            with file.open(newline="", encoding="utf-8-sig") as lines:
                yield from csv.DictReader(lines)
        elif file.suffix == ".json":
            content = json.loads(file.read_text())
            yield from content if isinstance(content, list) else [content]
        else:
            raise UsageError(
                f"{file}: must be a .csv or .json file; put Parquet files into the store, below "
                "labels/endpoint=NAME/"
            )
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None


def _show_quality(document: dict[str, Any], style: Style) -> None:
    delay = document["label_delay_seconds"]
    known = delay["median"] is not None
    lag = f"median delay of labels {duration(delay['median'])}" if known else "no labels yet"
    print(f"{style.title(document['endpoint'])}  {style.quiet(lag)}")
    for version in document["versions"]:
        print(f"\n{style.title('version ' + version['version'])}")
        rows = [_window(window) for window in version["windows"]]
        print("\n".join(table(["WINDOW", "STATE", "LABELS", *_METRICS], rows, style)))
    if not document["versions"]:
        print("No predictions were read yet.")
    counts = document["counts"]
    for kind in ("labels", "rows", "files"):
        parts = [
            f"{count} {name.removeprefix(kind + '_')}"
            for name, count in sorted(counts.items())
            if name.startswith(f"{kind}_")
        ]
        if parts:
            print(style.quiet(f"{kind}: {', '.join(parts)}"))


def _window(window: dict[str, Any]) -> list[str]:
    metrics = window["metrics"]
    return [
        _time(window["start"]),
        window["state"],
        f"{window['labels']}/{window['predictions']}",
        *(_estimate(metrics[name]) if name in metrics else "" for name in _METRICS),
    ]


def _estimate(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.4g} [{estimate['low']:.4g}, {estimate['high']:.4g}]"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _show_drift(document: dict[str, Any], style: Style) -> None:
    print(style.title(document["endpoint"]))
    for version in document["versions"]:
        print(f"\n{style.title('version ' + version['version'])}")
        window = version["window"]
        if window is None:
            print(f"No window has {document['min_samples']} rows in addition to its reference yet.")
        else:
            found = [*window["features"], *filter(None, [window["prediction"]])]
            rows = [
                [
                    each["feature"],
                    each["method"],
                    f"{each['score']:.3f}",
                    f"{each['p_value']:.2g}",
                    "drift" if each["drifted"] else "",
                ]
                for each in sorted(found, key=lambda each: each["p_value"])
            ]
            print(style.quiet(f"window {_time(window['start'])}, {window['samples']} rows"))
            print("\n".join(table(["FEATURE", "TEST", "SCORE", "P", "RESULT"], rows, style)))
        if changes := version["concept"]["changes"]:
            print(f"error rate changed at {', '.join(map(_time, changes))}")
