"""Combined and single predictions are the same for each request."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.models import infer_signature

from pulumi_mlops.runtime.model_server.batching import Batcher, combine
from pulumi_mlops.runtime.model_server.inference import Inference
from pulumi_mlops.runtime.model_server.request_queue import Job

from . import model_server_fixtures as fixtures


class Model:
    """A pyfunc model without its files: counts the rows of each call."""

    def __init__(self, signature: Any, function: Any) -> None:
        self.metadata = mlflow.models.Model(signature=signature)
        self.metadata.add_flavor("python_function", loader_module="mlflow.pyfunc.model")
        self.function = function
        self.calls: list[int] = []

    def predict(self, data: Any, params: Any = None) -> Any:
        self.calls.append(len(data))
        return self.function(data)


COLUMNS = infer_signature(pd.DataFrame({"a": [1.0], "b": [2.0]}), np.array([1.0]))


def inference(function: Any, signature: Any = COLUMNS) -> Inference:
    return Inference(Model(signature, function), "m", "1")


def split(rows: Any, columns: Any = ("a", "b"), **more: Any) -> bytes:
    return orjson.dumps({"dataframe_split": {"columns": columns, "data": rows}, **more})


def jobs(bodies: list[bytes], loop: Any) -> list[Job]:
    def request(number: int, body: bytes) -> Any:
        return lambda model: model.prepare_invocations(body, "application/json", f"id-{number}")

    return [
        Job(request(number, body), None, loop.create_future())  # type: ignore[arg-type]
        for number, body in enumerate(bodies)
    ]


def answers(batcher: Batcher, bodies: list[bytes]) -> list[Any]:
    """Of each request in order: id, body and logged record; or status and message."""
    loop = asyncio.new_event_loop()
    try:
        asked = jobs(bodies, loop)
        outcomes = dict(pair for part in batcher.run(asked) for pair in part)
    finally:
        loop.close()
    assert outcomes.keys() == set(asked)
    return [seen(batcher.inference, outcomes[job]) for job in asked]


def seen(model: Inference, outcome: Any) -> Any:
    if isinstance(outcome, Exception):
        return outcome.status, outcome.message, outcome.request_id  # type: ignore[attr-defined]
    return outcome.id, outcome.body, model.record(outcome, 0.0, 0.0)


def singly(model: Inference, bodies: list[bytes]) -> list[Any]:
    batcher = Batcher(model, 1)
    return answers(batcher, bodies)


def half(data: pd.DataFrame) -> np.ndarray[Any, Any]:
    if (data["a"] < 0).any():
        raise ValueError("a is negative")
    return data["a"].to_numpy() / 2 + data["b"].to_numpy()


def labels(data: pd.DataFrame) -> pd.DataFrame:
    if (data["a"] < 0).any():
        raise ValueError("a is negative")
    rows = [
        {"label": "x" * int(min(a, 9)), "score": None if b > 90 else int(b)}
        for a, b in data.itertuples(index=False)
    ]
    return pd.DataFrame(rows)


NUMBER = st.one_of(st.integers(-1, 100), st.floats(-1, 100, width=32))
ROWS = st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=3)
REQUEST = st.one_of(
    ROWS.map(split),
    ROWS.map(lambda rows: split([row[::-1] for row in rows], ("b", "a"))),
    ROWS.map(lambda rows: orjson.dumps({"inputs": {"a": [r[0] for r in rows],
                                                   "b": [r[1] for r in rows]}})),
    ROWS.map(lambda rows: split([[a, b, 1] for a, b in rows], ("a", "b", "c"))),
    st.sampled_from([
        b"{", b"[]", split([["x", 1]]), split([[1]], ("a",)), split([[1, None]]),
        split([[1, 2]], params={"z": 1}), split([]),
    ]),
)  # fmt: skip


@pytest.mark.parametrize("function", [half, labels])
@given(bodies=st.lists(REQUEST, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_batched_answers_are_the_single_ones(function: Any, bodies: list[bytes]) -> None:
    model = inference(function)
    batcher = Batcher(model, 8)
    batcher._to_check = 0
    assert answers(batcher, bodies) == singly(model, bodies)


def test_one_call_for_all_and_an_error_for_one() -> None:
    model = inference(half)
    batcher = Batcher(model, 64)
    batcher._to_check = 0
    model.pyfunc.calls.clear()
    bodies = [split([[number, 1]]) for number in range(10)]
    assert answers(batcher, bodies) == singly(inference(half), bodies)
    assert model.pyfunc.calls == [10]
    bodies[3] = split([[-1, 1]])
    model.pyfunc.calls.clear()
    seen = answers(batcher, bodies)
    assert seen == singly(inference(half), bodies)
    assert seen[3] == (500, "the model failed: ValueError: a is negative", "id-3")
    assert model.pyfunc.calls == [10] + [1] * 10
    for _ in range(20):
        answers(batcher, bodies)
    assert batcher.max_batch == 64  # bad requests do not end batching


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exception_that_ends_threads_stays_with_its_request(error: BaseException) -> None:
    def ends(data: pd.DataFrame) -> Any:
        if (data["a"] < 0).any():
            raise error
        return data["a"].to_numpy()

    bodies = [split([[number, 1]]) for number in (1, -1, 2)]
    seen = answers(Batcher(inference(ends), 64), bodies)
    assert seen == singly(inference(ends), bodies)
    assert [each[0] for each in seen] == ["id-0", 500, "id-2"]
    assert seen[1][1].startswith(f"the model failed: {type(error).__name__}")


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean", "int64", "float32"])
def test_combined_columns_keep_their_type(dtype: str) -> None:
    rows = [[1, 0], [1, 1]] if dtype == "boolean" else [[1, 2], [3, 4]]
    parts = [pd.DataFrame({"a": row, "b": row}).astype(dtype) for row in rows]
    combined = combine(parts)
    pd.testing.assert_frame_equal(combined, pd.concat(parts, ignore_index=True))
    assert {str(each) for each in combined.dtypes} == {dtype}


def test_calls_are_checked_no_more_after_two_threads_counted_down_at_once() -> None:
    model = inference(half)
    batcher = Batcher(model, 64)
    batcher._to_check = -1
    answers(batcher, [split([[number, 1]]) for number in range(3)])
    assert model.pyfunc.calls == [3]


def test_the_failure_of_a_combined_call_is_no_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def one_row(data: pd.DataFrame) -> Any:
        if len(data) != 1:
            raise ValueError("one row, please")
        return data["a"].to_numpy()

    with caplog.at_level("DEBUG"):
        answers(Batcher(inference(one_row), 64), [split([[number, 1]]) for number in range(3)])
    levels = [each.levelname for each in caplog.records if "the model failed" in each.message]
    assert levels == ["DEBUG"]
    caplog.clear()
    answers(Batcher(inference(half), 64), [split([[-1, 1]])])
    assert [each.levelname for each in caplog.records] == ["ERROR"]


def test_rows_of_a_call_are_bounded() -> None:
    model = inference(half)
    batcher = Batcher(model, 8)
    batcher._to_check = 0
    bodies = [split([[1, 1]] * count) for count in (3, 3, 3, 20, 1, 1)]
    assert answers(batcher, bodies) == singly(inference(half), bodies)
    assert model.pyfunc.calls == [6, 3, 20, 2]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda data: data["a"].to_numpy() - data["a"].mean(), "depend on the other rows"),
        (lambda data: data["a"].to_numpy()[:1], "one row per row"),
        (lambda data: float(data["a"].sum()), "the output is a float"),
    ],
)
def test_a_model_whose_rows_depend_on_one_another_is_not_batched(
    function: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = inference(function)
    batcher = Batcher(model, 64)
    bodies = [split([[number, 1]]) for number in range(4)]
    assert answers(batcher, bodies) == singly(inference(function), bodies)
    assert batcher.max_batch == 1
    assert reason in caplog.text


def test_a_model_that_takes_one_row_only_is_not_batched_for_long() -> None:
    def one_row(data: pd.DataFrame) -> Any:
        if len(data) != 1:
            raise ValueError("one row, please")
        return data["a"].to_numpy()

    batcher = Batcher(inference(one_row), 64)
    bodies = [split([[number, 1]]) for number in range(4)]
    for _ in range(12):
        assert answers(batcher, bodies) == singly(inference(one_row), bodies)
    assert batcher.max_batch == 1


def test_clients_that_left_are_not_predicted() -> None:
    model = inference(half)
    batcher = Batcher(model, 64)
    loop = asyncio.new_event_loop()
    asked = jobs([split([[number, 1]]) for number in range(3)], loop)
    loop.close()
    asked[1].gone = True
    batcher._to_check = 0
    outcomes = [job for part in batcher.run(asked) for job, _ in part]
    assert outcomes == [asked[0], asked[2]]
    assert model.pyfunc.calls == [2]


def test_tensors_are_batched_by_their_first_dimension(tmp_path: Any) -> None:
    model = Inference(mlflow.pyfunc.load_model(fixtures.save_tensor(tmp_path / "m")), "m", "1")
    batcher = Batcher(model, 64)
    bodies = [orjson.dumps({"inputs": [[float(n), 2.0, 3.0]] * (n + 1)}) for n in range(3)]
    for _ in range(5):
        assert answers(batcher, bodies) == singly(model, bodies)
    assert batcher.max_batch == 64
    assert batcher._to_check == 0


@pytest.mark.parametrize(
    "example", [np.zeros((3, 3), dtype=np.float32), {"x": np.zeros((2, 3)), "y": np.zeros((2, 1))}]
)
def test_a_fixed_first_dimension_is_no_batch_dimension(example: Any) -> None:
    signature = infer_signature(example)
    assert Batcher(inference(len, signature), 64).max_batch == 64
    fixed = mlflow.models.ModelSignature(
        mlflow.types.Schema([
            mlflow.types.TensorSpec(np.dtype("float32"), (3, 3), "x")
        ])
    )  # fmt: skip
    assert Batcher(inference(len, fixed), 64).max_batch == 1


def test_without_signature_and_with_type_hints_it_is_off() -> None:
    assert Batcher(inference(len, None), 64).max_batch == 1
    stand_in = SimpleNamespace(signature=SimpleNamespace(inputs=(1,), raw=True))
    assert Batcher(stand_in, 64).max_batch == 1  # type: ignore[arg-type]
