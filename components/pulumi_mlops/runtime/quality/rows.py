"""Rows of predictions from the records of the prediction log."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from pulumi_mlops.runtime.quality.settings import MonitoredEndpoint

MAX_FEATURES = 200
_PREDICTION_NAMES = ("prediction", "predicted", "class", "label")
_PROBABILITY_NAMES = ("probabilities", "probability", "scores")


class RowError(ValueError):
    """A value of the log or of a label does not fit the task. The message names it."""


@dataclass(frozen=True)
class Row:
    """One predicted row. ``rank`` is a hash of the id and the row: the rows with the lowest ranks
    are a random sample that does not depend on the order of reading."""

    id: str
    row: int
    time: float
    predicted: str
    scores: Mapping[str, float] | None
    features: Mapping[str, Any]

    @property
    def rank(self) -> int:
        """63 bits."""
        digest = blake2b(f"{self.id}/{self.row}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) >> 1


def rows_of(
    endpoint: MonitoredEndpoint, record_id: str, time: float, inputs: str, outputs: str
) -> Iterator[Row]:
    """The rows of one record. Raises RowError."""
    try:
        answers, columns = json.loads(outputs), json.loads(inputs)
    except ValueError:
        raise RowError("inputs or outputs are not JSON") from None
    storable(record_id)
    answers = _by_row(answers)
    features = _by_row(columns)
    for index, answer in enumerate(answers):
        predicted, scores = predicted_of(endpoint, answer)
        values = features[index] if index < len(features) else {}
        yield Row(record_id, index, time, predicted, scores, _features(values))


def _by_row(value: Any) -> list[Any]:
    """Rows of a list of rows, of a map of columns, or of one value."""
    if isinstance(value, dict):
        lists = {name: each for name, each in value.items() if isinstance(each, list)}
        count = max(map(len, lists.values()), default=0)
        if len(lists) == len(value) and count:
            return [
                {name: each[index] for name, each in lists.items() if index < len(each)}
                for index in range(count)
            ]
        return [value]
    return value if isinstance(value, list) else [value]


def _features(row: Any) -> dict[str, Any]:
    named = (
        row if isinstance(row, dict) else dict(enumerate(row if isinstance(row, list) else [row]))
    )
    scalars = {
        str(name): value
        for name, value in named.items()
        if isinstance(value, str | int | bool)
        or (isinstance(value, float) and math.isfinite(value))
    }
    return dict(sorted(scalars.items())[:MAX_FEATURES])


def predicted_of(
    endpoint: MonitoredEndpoint, answer: Any
) -> tuple[str, Mapping[str, float] | None]:
    """The predicted class or number as text, and the probabilities of the classes if there are any.

    Raises RowError.
    """
    if endpoint.task == "regression":
        return repr(number(_single(answer))), None
    if isinstance(answer, dict):
        return _from_columns(endpoint, answer)
    if isinstance(answer, list) and len(answer) > 1:
        scores = _scores(endpoint, answer)
        return max(scores, key=scores.__getitem__), scores
    value = _single(answer)
    if isinstance(value, float) and len(endpoint.classes) == 2 and 0 <= value <= 1:
        positive = endpoint.positive or endpoint.classes[1]
        (negative,) = {*endpoint.classes} - {positive}
        scores = {positive: value, negative: 1 - value}
        return (positive if value >= 0.5 else negative), scores
    return category(value), None


def _from_columns(
    endpoint: MonitoredEndpoint, answer: Mapping[str, Any]
) -> tuple[str, Mapping[str, float] | None]:
    """From named outputs: a class and its probabilities, or one probability for each class."""
    wanted = (endpoint.label, *_PREDICTION_NAMES)
    name = next((each for each in wanted if each in answer), None)
    if name is None and len(answer) == 1:
        (name,) = answer
    if name is not None:
        given = next((answer[each] for each in _PROBABILITY_NAMES if each in answer), None)
        scores = None if given is None else _scores(endpoint, given)
        return category(_single(answer[name])), scores
    scores = _scores(endpoint, answer)
    return max(scores, key=scores.__getitem__), scores


def _scores(endpoint: MonitoredEndpoint, given: Any) -> dict[str, float]:
    if isinstance(given, list):
        names = endpoint.classes or tuple(map(str, range(len(given))))
        if len(names) != len(given):
            raise RowError(f"{len(given)} probabilities for {len(names)} classes")
        given = dict(zip(names, given, strict=True))
    if not isinstance(given, dict):
        raise RowError("probabilities are neither a list nor a map")
    scores = {category(name): number(value) for name, value in given.items()}
    if not scores or not all(0 <= value <= 1 for value in scores.values()):
        raise RowError("probabilities are not between 0 and 1")
    return scores


def _single(value: Any) -> Any:
    if isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, dict | list):
        raise RowError("the output has several values")
    return value


def category(value: Any) -> str:
    """A class as text: `1`, `1.0` and `"1"` are the same class, and so are true and `"True"`."""
    if value is None or value == "":
        raise RowError("the class is missing")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        if value in ("True", "False"):
            return value.lower()
        value = _decimal(storable(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if not isinstance(value, str | int | float):
        raise RowError("a class must be text, a number or true or false")
    return str(value)


def storable(text: str) -> str:
    """The text, if a database can store it. Raises RowError for NUL and lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowError("a text is not valid Unicode") from None
    if "\0" in text:
        raise RowError("a text contains the character NUL")
    return text


def _decimal(text: str) -> str | float:
    """The number in a text such as `1.0`, or the text."""
    try:
        return float(text) if "." in text else text
    except ValueError:
        return text


def number(value: Any) -> float:
    """A finite number. Raises RowError."""
    try:
        result = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise RowError("must be a finite number")
    return result


def label_text(endpoint: MonitoredEndpoint, value: Any) -> str:
    """A label as it is stored. Raises RowError."""
    if endpoint.task == "regression":
        return repr(number(value))
    if isinstance(value, dict | list):
        raise RowError("a class must be text, a number or true or false")
    return category(value)
