"""The checks of a model before its server becomes ready."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array, Map, Object, Property

from pulumi_mlops.runtime.model_server.inference import Inference
from pulumi_mlops.runtime.model_server.loader import LoadError, load
from pulumi_mlops.runtime.model_server.settings import ModelServerSettings

from . import model_server_fixtures as fixtures


class Model(mlflow.pyfunc.PythonModel):
    """Answers with `answer` if it is callable, otherwise raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, context, model_input, params=None):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(model_input) if callable(self.answer) else self.answer


def save(folder: Path, model: Any, schema: Schema | None = None, **options: Any) -> str:
    signature = None if schema is None else ModelSignature(schema)
    mlflow.pyfunc.save_model(
        str(folder), python_model=model, signature=signature, pip_requirements=[], **options
    )
    return str(folder)


def loaded(path: str, **env: str) -> Inference:
    return load(ModelServerSettings.from_env(fixtures.environment(path, **env)), path)


NUMBERS = Schema([ColSpec(DataType.double, "a"), ColSpec(DataType.long, "b")])
TEXT = Schema([ColSpec(DataType.string, "city")])


@pytest.mark.parametrize(
    "schema",
    [
        Schema([ColSpec(kind, kind.name) for kind in DataType if kind != DataType.binary]),
        Schema([ColSpec(DataType.binary, "raw")]),
        Schema([ColSpec(DataType.double), ColSpec(DataType.string)]),
        Schema([ColSpec(DataType.long, 0), ColSpec(DataType.long, 1)]),
        Schema([TensorSpec(np.dtype("f4"), (-1, 2, 3))]),
        Schema([TensorSpec(np.dtype("u1"), (-1,), "x"), TensorSpec(np.dtype("?"), (-1, 2), "y")]),
        Schema([TensorSpec(np.dtype("M8[ns]"), (-1,)) ]),
        Schema([TensorSpec(np.dtype("O"), (-1, 2))]),
        Schema(
            [
                ColSpec(Array(Array(DataType.double)), "array"),
                ColSpec(Object([Property("a", DataType.boolean)]), "object"),
                ColSpec(Map(DataType.string), "map"),
                ColSpec(AnyType(), "any", required=False),
            ]
        ),
    ],
    ids=lambda schema: str(schema)[:40],
)  # fmt: skip
def test_a_model_without_an_example_is_probed(tmp_path, caplog, schema):
    caplog.set_level(logging.INFO)
    loaded(save(tmp_path / "m", Model(lambda data: [1.0]), schema))
    assert "the model answers a request made from its signature" in caplog.text


class Hinted(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[dict[str, float]]) -> list[float]:
        return [sum(row.values()) for row in model_input]


def test_a_model_with_type_hints_is_probed(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    loaded(save(tmp_path / "m", Hinted()))
    assert "the model answers a request made from its signature" in caplog.text


@pytest.mark.parametrize(
    ("schema", "error"),
    [
        (NUMBERS, ValueError("X has 2 features, but 3 are expected")),
        (NUMBERS, KeyError("c")),
        (TEXT, AttributeError("no attribute 'predict_all'")),
        (TEXT, ImportError("cannot import name 'x'")),
    ],
)
def test_a_model_that_fails_every_probe_is_refused(tmp_path, schema, error):
    path = save(tmp_path / "m", Model(error), schema)
    with pytest.raises(LoadError) as caught:
        loaded(path)
    assert str(caught.value) == (
        "the model was logged without an input example, and every request made from its signature "
        f"failed: the model failed: {type(error).__name__}: {error}; log the model with an input "
        "example that it answers, or set `check_output: warn`"
    )
    assert loaded(path, MLOPS_CHECK_OUTPUT="warn").signature.inputs


def test_one_answer_is_enough(tmp_path):
    def positive(data: pd.DataFrame) -> Any:
        if (data["a"] > 0).any():
            raise ValueError("unknown value")
        return data["a"]

    loaded(save(tmp_path / "m", Model(positive), NUMBERS))


def test_an_unknown_text_is_no_failure(tmp_path, caplog):
    """Encoders refuse a category that they do not know."""
    error = ValueError("Found unknown categories ['a'] in column 0")
    loaded(save(tmp_path / "m", Model(error), TEXT))
    assert "whose values may be the reason: the model failed: ValueError: Found" in caplog.text


def test_without_a_signature_no_request_can_be_made(tmp_path, caplog):
    loaded(save(tmp_path / "m", Model(ValueError("x"))))
    assert "no request can be made to check it" in caplog.text


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({1, 2}, "Type is not JSON serializable: set"),
        (np.array([1 + 2j]), "Type is not JSON serializable: complex"),
        ([{(1, 2): 3}], "Dict key must a type serializable with OPT_NON_STR_KEYS"),
    ],
)
@pytest.mark.parametrize("example", [True, False])
def test_an_answer_that_json_does_not_have_is_found_at_once(tmp_path, answer, reason, example):
    frame = pd.DataFrame({"a": [1.5], "b": [1]})
    options: dict[str, Any] = {"input_example": frame} if example else {}
    path = save(tmp_path / "m", Model(answer), NUMBERS, **options)
    with pytest.raises(LoadError, match="failed: the model's answer is not JSON: ") as caught:
        loaded(path)
    assert reason in str(caught.value)


class Raw(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[bytes]) -> list[int]:
        return [len(value) for value in model_input]


def test_type_hints_accept_base64(tmp_path, monkeypatch):
    """MLflow decodes it only in the environment of a server."""
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "false")
    inference = loaded(save(tmp_path / "m", Raw(), input_example=[b"\x00\xff"]))
    answer = inference.invocations(b'{"inputs": ["AP8="]}', "application/json", "id")
    assert answer.body == b'{"predictions":[2]}'
    assert os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] == "true"


def test_a_probed_model_of_numbers_takes_the_direct_way(tmp_path):
    path = fixtures.save_classifier(tmp_path / "m")
    model = mlflow.models.Model.load(path)
    model.saved_input_example_info = None
    model.save(f"{path}/MLmodel")
    assert loaded(path)._direct is not None
