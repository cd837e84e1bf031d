"""Each answer of `/invocations` equals that of MLflow's scoring server, or has a reason to differ.

One test for each model; each of its requests is a row of the table. `make compare-mlflow` also runs
what `make test` leaves out, and writes the table to build/mlflow-comparison.md.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .bodies import requests
from .case import Model
from .flavors import MODELS as FLAVORS
from .python_models import MODELS as PYTHON_MODELS
from .reasons import REASONS, why
from .servers import Row, Servers, modules_restored, rows
from .table import write

TABLE = os.environ.get("MLFLOW_COMPARISON_TABLE", "")
WHOLE = bool(TABLE)
MODELS = [*FLAVORS, *PYTHON_MODELS]

pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow and pandas, about the bad requests


def installed(model: Model) -> None:
    """Skip the test without the model's library, except in `make compare-mlflow`."""
    try:
        if model.needs:
            importlib.import_module(model.needs)
    except (ImportError, OSError) as error:  # OSError: a shared library of the system is missing
        assert not WHOLE, f"make compare-mlflow installs {model.needs}: {error}"
        pytest.skip(f"{model.needs} is not installed: make compare-mlflow")


@pytest.fixture(scope="module")
def table() -> Iterator[list[Row]]:
    collected: list[Row] = []
    yield collected
    if WHOLE:
        write(collected, Path(TABLE))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.flavor}: {model.name}")
def test_answers_of_mlflow(model: Model, tmp_path: Path, table: list[Row], monkeypatch) -> None:
    installed(model)
    # MLflow's server sets it in this process; the model server must set it itself.
    monkeypatch.delenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", raising=False)
    with modules_restored():
        servers = Servers(model, tmp_path / "model")
        compared = rows(servers, requests(model, whole=WHOLE))
    table += compared
    if model.refused:
        assert model.refused in servers.refusal
        assert servers.refusal.endswith(", or set `check_output: warn`")
    else:
        assert servers.refusal == ""
    differences = [
        f"{row.request}\n  MLflow: {row.theirs.status} {row.theirs.text[-300:]}\n"
        f"  here:   {row.ours.status} {row.ours.text[:300]}"
        for row in compared
        if why(row) is None
    ]
    assert not differences, "\n".join(differences)
    assert any(row.theirs.ok and row.ours.ok for row in compared)


def test_size_of_the_table() -> None:
    names = [f"{model.flavor}: {model.name}" for model in MODELS]
    assert len(set(names)) == len(names)
    assert sum(len(requests(model, whole=False)) for model in MODELS) >= 120
    assert {model.flavor for model in MODELS} == {
        "sklearn", "xgboost", "lightgbm", "statsmodels", "pytorch", "pyfunc"
    }  # fmt: skip
    assert {model.example for model in MODELS} >= {"frame", "ndarray", "dict", "list", "none"}
    assert len(REASONS) < 12
