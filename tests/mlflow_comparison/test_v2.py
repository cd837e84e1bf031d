"""V2 answers beside the protocol's definition and the model's own predictions.

V2 has no peer in MLflow. Its answer must have the values that `/invocations` answers for the same
input, which `test_answers` compares with MLflow.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from . import v2
from .bodies import requests
from .case import Model
from .python_models import ANSWERS
from .servers import Reply, Servers, modules_restored
from .test_answers import MODELS, installed

pytestmark = pytest.mark.filterwarnings("ignore")

# Answers that JSON does not have, by both protocols.
NOT_JSON = {
    "set", "generator", "array, complex", "timedelta", "frame of timedeltas", "frame of periods",
    "frame, decimal", "decimal", "object", "index",
}  # fmt: skip


def predictions(reply: Reply) -> Any:
    assert reply.ok, reply.text
    return reply.parsed["predictions"]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.flavor}: {model.name}")
def test_values_of_an_answer(model: Model, tmp_path: Path) -> None:
    installed(model)
    with modules_restored():
        servers = Servers(model, tmp_path / "model")
        valid = asyncio.run(servers.row(requests(model, whole=False)[0])).ours
        reply = asyncio.run(servers.infer({"id": "x", "inputs": v2.tensors(model.sample)}))
    assert reply.ok, reply.text
    answer = reply.parsed
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("compared", "1", "x")
    for tensor in answer["outputs"]:
        v2.check(tensor)
    assert v2.same(answer["outputs"], predictions(valid)), (valid.text, reply.text)


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> Servers:
    model = next(model for model in MODELS if model.name == "answers")
    return Servers(model, tmp_path_factory.mktemp("answers") / "model")


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_kind_of_answer(answers: Servers, kind: str) -> None:
    request = {"inputs": v2.tensors(pd.DataFrame({"kind": [kind]}))}
    reply = asyncio.run(answers.infer(request))
    body = next(body for body in answers.model.bodies if body.name == kind)
    scored = asyncio.run(answers.row(body)).ours
    if not reply.ok:
        assert reply.status == 500
        assert "the model's answer is not JSON: " in reply.parsed["error"]
        assert kind in NOT_JSON
        return
    for tensor in reply.parsed["outputs"]:
        v2.check(tensor)
    if scored.ok:
        assert v2.same(reply.parsed["outputs"], predictions(scored)), (scored.text, reply.text)
