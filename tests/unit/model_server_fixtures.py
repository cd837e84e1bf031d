"""Real models in a real MLflow store, and the model server as a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from mlflow.models.model import Model
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NAME = "iris"
COLUMNS = ["length", "width"]
FEATURES = pd.DataFrame({"length": [1.0, 1.2, 5.0, 5.5], "width": [0.1, 0.2, 2.0, 2.2]})
LABELS = np.array(["small", "small", "large", "large"])


class Mixed(mlflow.pyfunc.PythonModel):
    """Takes mixed columns and a parameter, answers a DataFrame."""

    def predict(self, context, model_input, params=None):
        factor = (params or {}).get("factor", 1.0)
        if (model_input["count"] < 0).any():
            raise ValueError("count below zero\nsecond line")
        return pd.DataFrame(
            {
                "score": model_input["count"].astype(float) * factor,
                "label": model_input["city"].astype(object).to_numpy(),
            }
        )


class Slow(mlflow.pyfunc.PythonModel):
    """Takes as many seconds as the row says."""

    def predict(self, context, model_input, params=None):
        time.sleep(float(model_input["seconds"].max()))
        return np.asarray(model_input["seconds"], dtype=float)


def save_classifier(folder: Path) -> str:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(FEATURES, LABELS)
    mlflow.sklearn.save_model(
        model,
        str(folder),
        signature=infer_signature(FEATURES, model.predict(FEATURES)),
        input_example=FEATURES.head(1),
        pip_requirements=[],
    )
    return str(folder)


def save_mixed(folder: Path) -> str:
    example = pd.DataFrame({"city": ["Bonn"], "count": [3], "open": [True]})
    output = pd.DataFrame({"score": [1.0], "label": ["Bonn"]})
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=Mixed(),
        signature=infer_signature(example, output, params={"factor": 1.0}),
        input_example=(example, {"factor": 2.0}),
        pip_requirements=[],
    )
    return str(folder)


def save_slow(folder: Path) -> str:
    example = pd.DataFrame({"seconds": [0.0]})
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=Slow(),
        signature=infer_signature(example, np.array([0.0])),
        pip_requirements=[],
    )
    return str(folder)


def save_tensor(folder: Path) -> str:
    """A model with a tensor signature: the sum of each row."""

    class RowSum(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return np.asarray(model_input).sum(axis=1)

    example = np.array([[1.0, 2.0, 3.0]], dtype=np.float32)
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=RowSum(),
        signature=infer_signature(example, example.sum(axis=1)),
        input_example=example,
        pip_requirements=[],
    )
    return str(folder)


def save_liar(folder: Path) -> str:
    """A model whose signature promises numbers, where it answers text."""
    path = save_classifier(folder)
    model = Model.load(path)
    model.signature = infer_signature(FEATURES, np.array([1.0, 2.0]))
    model.save(str(folder / "MLmodel"))
    return path


def environment(model_uri: str, **more: str) -> dict[str, str]:
    return {
        "HOST": "127.0.0.1",
        "MLOPS_ENDPOINT": "flowers",
        "MLOPS_MODEL_NAME": NAME,
        "MLOPS_MODEL_VERSION": "7",
        "MLOPS_MODEL_URI": model_uri,
        **more,
    }


@dataclass
class Running:
    url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def server(folder: Path, env: dict[str, str]) -> Iterator[Running]:
    """The model server on a port that the system chooses; killed at the end if still there."""
    log = folder / "server.log"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "MLFLOW_"))}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "pulumi_mlops.runtime.model_server"],
            env={**clean, "PORT": "0", **env},
            stdout=stream,
            stderr=stream,
        )
    try:
        yield Running(f"http://127.0.0.1:{_port(process, log)}", process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    while process.poll() is None:
        text = log.read_text()
        if "listening on " in text:
            return int(text.partition("listening on ")[2].partition(",")[0].rpartition(":")[2])
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def wait_ready(running: Running) -> None:
    with httpx.Client() as http:  # one client: each makes a TLS context, which costs CPU
        while running.process.poll() is None:
            if http.get(f"{running.url}/v2/health/ready").status_code == 200:
                return
            time.sleep(0.1)
    raise AssertionError(running.log.read_text())
