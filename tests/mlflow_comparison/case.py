"""A model of the comparison, and a request to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"


@dataclass(frozen=True)
class Body:
    """The bytes of one request to `/invocations`."""

    name: str
    content: bytes
    content_type: str | None = JSON


def body(name: str, value: Any) -> Body:
    """A JSON request as Python's `json` writes it: NaN, Infinity and integers of any size."""
    return Body(name, json.dumps(value).encode())


@dataclass(frozen=True)
class Model:
    """A model to compare, and what its requests are made from.

    ``sample`` is valid input: a DataFrame, an ndarray, a dict of ndarrays, or a JSON value for a
    model with type hints. ``bodies`` are further requests. ``needs`` is a library that not
    every machine has; `make compare-mlflow` installs it.
    ``many``: also requests of 100,000 rows, in `make compare-mlflow`.
    ``refused`` is part of the reason why it becomes ready only with `check_output: warn`.
    """

    name: str
    flavor: str
    signature: str
    example: str
    save: Callable[[Path], None]
    sample: Any
    bodies: tuple[Body, ...] = ()
    params: dict[str, Any] | None = None
    many: bool = False
    refused: str = ""
    needs: str = ""
