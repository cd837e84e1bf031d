"""The bytes of a request to JSON, and the checks that MLflow's parser does not make."""

from __future__ import annotations

import csv
import json
from email.message import Message
from typing import Any

import orjson

from pulumi_mlops.runtime.model_server.http import RequestError

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"

# Digits to "0", everything else to a space: finds long integers 20 times faster than a pattern.
_DIGITS = bytes(ord("0") if chr(code).isdecimal() and code < 128 else 32 for code in range(256))
_LONG = b"0" * 20


def media_type(content_type: str) -> str:
    """The media type of a Content-Type header; its only allowed parameter is UTF-8.

    Raises RequestError 415 for what `/invocations` does not read.
    """
    if content_type == JSON:
        return JSON
    message = Message()
    message["content-type"] = content_type
    kind, *parameters = message.get_params([])  # unquotes, and folds the case of names
    mime = kind[0].strip().lower()
    if mime not in (JSON, CSV, PARQUET) or any(
        (n.lower(), v.lower()) != ("charset", "utf-8") for n, v in parameters
    ):
        raise RequestError(
            415,
            f"Content-Type {content_type!r} is not supported; "
            f"send {JSON}, {CSV} or {PARQUET}, in UTF-8",
        )
    return mime


def json_object(body: bytes) -> dict[str, Any]:
    """A JSON object, with NaN and Infinity as Python's `json` has them. Raises RequestError 400.

    An integer over 64 bits becomes a float.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _exact_json(body)
    return _object(value)


def exact_json_object(body: bytes) -> dict[str, Any]:
    """A JSON object with integers of any size. Raises RequestError 400."""
    return _object(_exact_json(body))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(400, "the body is not a JSON object")
    return value


def json_value(text: str) -> Any:
    """A JSON text; raises ValueError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def has_long_integer(body: bytes) -> bool:
    """Whether there may be an integer that does not fit 64 bits."""
    return _LONG in body.translate(_DIGITS)


def _exact_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except UnicodeDecodeError:
        raise RequestError(400, "the body is not UTF-8") from None
    except RecursionError:
        raise RequestError(
            400, "the body is not JSON that can be read: nested too deeply"
        ) from None
    except ValueError as error:
        raise RequestError(400, f"the body is not JSON: {error}") from None


def check_split(split: Any) -> None:
    """Refuse rows of unequal length: MLflow fills them up with NaN.

    Raises RequestError 400. Whatever has another form is left to MLflow's parser.
    """
    rows = split.get("data") if isinstance(split, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        return
    columns = split.get("columns")
    width = len(columns) if isinstance(columns, list) else len(rows[0]) if rows else 0
    for index, row in enumerate(rows):
        if len(row) != width:
            raise RequestError(
                400, f"dataframe_split: row {index} has {len(row)} values, expected {width}"
            )


def check_csv(text: str) -> None:
    """Refuse rows of unequal length, as `check_split` does; pandas would shift the columns."""
    width = 0
    try:
        for row in csv.reader(text.splitlines(keepends=True)):
            width = width or len(row)
            if row and len(row) != width:
                values = ",".join(row)[:40]
                raise RequestError(
                    400, f"CSV: the row {values!r} has {len(row)} values, expected {width}"
                )
    except csv.Error:
        return  # pandas has its own message
