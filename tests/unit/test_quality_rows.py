"""Predictions and labels of every form that models and senders use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulumi_mlops.runtime.quality.rows import (
    MAX_FEATURES,
    RowError,
    category,
    label_text,
    predicted_of,
    rows_of,
)

from .quality_fixtures import START, WINDOW, World, endpoint

THREE = endpoint(classes=("a", "b", "c"))
TWO = endpoint(classes=("no", "yes"), positive="yes")


@pytest.mark.parametrize(
    ("of", "answer", "predicted", "scores"),
    [
        (THREE, "b", "b", None),
        (THREE, {"species": "b"}, "b", None),
        (THREE, {"anything": "b"}, "b", None),
        (THREE, ["b"], "b", None),
        (THREE, [0.1, 0.7, 0.2], "b", {"a": 0.1, "b": 0.7, "c": 0.2}),
        (THREE, {"a": 0.1, "b": 0.7, "c": 0.2}, "b", {"a": 0.1, "b": 0.7, "c": 0.2}),
        (THREE, {"prediction": "c", "probabilities": [0, 0.5, 0.5]}, "c",
         {"a": 0.0, "b": 0.5, "c": 0.5}),
        (TWO, 0.75, "yes", {"yes": 0.75, "no": 0.25}),
        (TWO, 0.25, "no", {"yes": 0.25, "no": 0.75}),
        (endpoint(), [0.25, 0.75], "1", {"0": 0.25, "1": 0.75}),
        (endpoint(), 1, "1", None),
        (endpoint(), 1.0, "1", None),
        (endpoint(), True, "true", None),
        (endpoint(task="regression"), 3, "3.0", None),
        (endpoint(task="regression"), {"price": [2.5]}, "2.5", None),
    ],
)  # fmt: skip
def test_forms_of_outputs(of: Any, answer: Any, predicted: str, scores: Any) -> None:
    assert predicted_of(of, answer) == (predicted, scores)


@pytest.mark.parametrize(
    ("of", "answer"),
    [
        (THREE, None), (THREE, [0.1, 0.9]), (THREE, {"a": 3, "b": 1}), (THREE, [[1], [2]]),
        (endpoint(task="regression"), "many"), (endpoint(task="regression"), float("nan")),
        (endpoint(task="regression"), [1, 2]), (endpoint(task="regression"), True),
    ],
)  # fmt: skip
def test_other_outputs_are_malformed(of: Any, answer: Any) -> None:
    with pytest.raises(RowError):
        predicted_of(of, answer)


@pytest.mark.parametrize("same", [("1", 1, 1.0, "1.0"), (True, "True", "true"), ("x.y", "x.y")])
def test_the_same_class_in_several_forms(same: tuple[Any, ...]) -> None:
    assert len({category(each) for each in same}) == 1


def test_labels_of_numbers_are_numbers() -> None:
    assert label_text(endpoint(task="regression"), "1e3") == "1000.0"
    for wrong in ("", "x", None, "nan", {}):
        with pytest.raises(RowError):
            label_text(endpoint(task="regression"), wrong)


def test_rows_of_a_request_with_several() -> None:
    inputs = json.dumps({"mass": [1, 2], "nested": [[1], [2]], "name": ["x", None]})
    first, second = rows_of(endpoint(), "id", 5.0, inputs, '["a", "b"]')
    assert (first.row, first.predicted, first.features) == (0, "a", {"mass": 1, "name": "x"})
    assert (second.row, second.predicted, second.features) == (1, "b", {"mass": 2})
    assert first.rank != second.rank
    (row,) = rows_of(endpoint(), "id", 5.0, json.dumps([list(range(500))]), '["a"]')
    assert len(row.features) == MAX_FEATURES


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "prediction", "probabilities", "x"]), inner)
    ),
    max_leaves=8,
)


@given(JSON, JSON, st.sampled_from(["classification", "regression"]))
def test_any_record_gives_rows_or_a_row_error(inputs: Any, outputs: Any, task: str) -> None:
    try:
        rows = list(rows_of(endpoint(task=task), "id", 1.0, json.dumps(inputs),
                            json.dumps(outputs)))  # fmt: skip
    except RowError:
        return
    assert all(isinstance(row.predicted, str) for row in rows)


@pytest.mark.parametrize("text", ["nul\0", "\ud800"])
def test_text_that_a_database_cannot_store_is_malformed(text: str) -> None:
    for record in (("id", json.dumps([text])), (text, '["a"]')):
        with pytest.raises(RowError):
            list(rows_of(endpoint(), record[0], 1.0, "{}", record[1]))
    with pytest.raises(RowError):
        label_text(endpoint(), text)


def test_numbers_out_of_range_are_left_out() -> None:
    (row,) = rows_of(endpoint(), "id", 1.0, '{"x": Infinity, "y": NaN, "z": 1e3}', '["a"]')
    assert row.features == {"z": 1000.0}
    with pytest.raises(RowError):
        predicted_of(endpoint(task="regression"), 10**400)


def test_a_regression_endpoint_from_log_to_metrics(tmp_path: Path) -> None:
    world = World(tmp_path, endpoint(task="regression", label="price"))
    rows = [(f"r{i}", START + i, {"size": i}, {"price": float(i)}) for i in range(50)]
    world.log(rows)
    world.pass_at(START + 60)
    sent = [{"id": f"r{i}", "price": i + (1 if i % 2 else -1)} for i in range(50)]
    assert world.service.accept(world.endpoints[0], sent).outcomes == {"accepted": 50}
    world.pass_at(START + 3 * WINDOW)
    (window,) = world.quality()
    assert window["metrics"]["rmse"]["value"] == 1.0
    assert window["metrics"]["mae"]["value"] == 1.0
    assert 0.99 < window["metrics"]["r2"]["low"] <= window["metrics"]["r2"]["value"] < 1
