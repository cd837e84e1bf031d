"""Why an answer may differ from that of MLflow's scoring server.

Each reason is a strict predicate on both answers. A row with equal answers has none; a row without
equal answers and without a reason is a failure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from .servers import Row

EQUAL = ""
UNEXPECTED = "Encountered an unexpected error while evaluating the model"


def equal(row: Row) -> bool:
    """The same class of status, and the same parsed body of an answer."""
    if row.theirs.status // 100 != row.ours.status // 100:
        return False
    return not row.theirs.ok or _same(row.theirs.parsed, row.ours.parsed)


def _same(one: Any, other: Any) -> bool:
    """Equal with types: 1, 1.0 and true differ; NaN equals NaN."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def why(row: Row) -> str | None:
    """EQUAL, the reason for a difference, or None if there is none."""
    if equal(row):
        return EQUAL
    for reason, holds in REASONS.items():
        if holds(row):
            return reason
    return None


def _model_failed(row: Row) -> bool:
    return (
        row.theirs.status == 400
        and UNEXPECTED in row.theirs.text
        and row.ours.status == 500
        and "the model failed: " in row.ours.text
    )


def _not_finite(row: Row) -> bool:
    """The same answer, with null for NaN and Infinity."""
    if not (row.theirs.ok and row.ours.ok):
        return False
    theirs = json.loads(row.theirs.text, parse_constant=lambda _: None)
    return row.theirs.text != row.ours.text and _same(theirs, row.ours.parsed)


def _ragged(row: Row) -> bool:
    return (
        row.theirs.ok
        and row.ours.status == 400
        and re.search(r"row .* has \d+ values, expected", row.ours.text) is not None
    )


def _rows_differ(row: Row) -> bool:
    return (
        row.theirs.ok
        and row.ours.status == 500
        and re.search(r"the model's answer has \d+ rows, the request has \d+", row.ours.text)
        is not None
    )


def _encodable(row: Row) -> bool:
    """A UUID, a key that is a date: orjson has a text for them."""
    crashed = (row.theirs.status, row.theirs.text) == (500, "Internal Server Error")
    return crashed and row.ours.ok and row.model.name == "answers"


def _no_rows(row: Row) -> bool:
    return row.theirs.status == 500 and row.ours.status == 400 and '"no rows' in row.ours.text


def _unreadable(row: Row) -> bool:
    return (
        (row.theirs.status, row.theirs.text) == (500, "Internal Server Error")
        and row.ours.status == 400
        and re.search("the body (cannot be read|is not)", row.ours.text) is not None
    )


def _media_type(row: Row) -> bool:
    """Case and quotes of a media type have no meaning (RFC 9110, section 8.3.1)."""
    return row.theirs.status == 415 and row.ours.ok and row.request.startswith("content type")


def _no_media_type(row: Row) -> bool:
    absent = row.request in ("content type ''", "content type None")
    return absent and row.theirs.status in (415, 500) and row.ours.ok


REASONS: dict[str, Callable[[Row], bool]] = {
    "without a media type the body is JSON": _no_media_type,
    "a failure of the model is 500: the monitor and the rollout count it": _model_failed,
    "NaN, Infinity and NA are null: JSON has none of them": _not_finite,
    "rows of unequal length are refused, where MLflow fills them up": _ragged,
    "an answer without a row for each row of the request is an error": _rows_differ,
    "MLflow's server fails to encode the answer": _encodable,
    "a request without rows that the model does not accept is the client's error": _no_rows,
    "an unreadable body is the client's error": _unreadable,
    "case and quotes of a media type have no meaning": _media_type,
}
