"""Serving speed, relative to other servers of the same model, one worker each, one row a request.

The limits are on requests per CPU second of the server, since other work on the machine changes the
wall time. Requests per second are shown too.

Ours runs with metrics and the prediction log on. MLServer is installed into an environment of its
own under build/ (its pins conflict with MLflow's other companions); it is left out, and said so,
when that fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from figures import Figure, progress
from servers import Rate, Server, free_port, paired, rate_ratios

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = 4
REQUESTS = 400
ROUNDS = 7
COLUMNS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
ROW = [39.1, 18.7, 181.0, 3750.0]
MLSERVER = ["mlserver==1.7.1", "mlserver-mlflow==1.7.1"]

TRAIN = """
import sys, mlflow, palmerpenguins
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
data = palmerpenguins.load_penguins().dropna()
features = data[{columns}].astype(float)
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
model.fit(features, data.species)
mlflow.sklearn.save_model(
    model, {path!r}, input_example=features.head(1),
    signature=infer_signature(features, model.predict(features)),
)
"""


def requests(smoke: bool) -> Iterator[Figure]:
    """Rates of ours over each other server's, median of the rounds."""
    with tempfile.TemporaryDirectory(prefix="bench-serving-", ignore_cleanup_errors=True) as folder:
        yield from _requests(Path(folder), smoke)


def _requests(folder: Path, smoke: bool) -> Iterator[Figure]:
    samples = _samples(folder, smoke)
    for subject, reference, limit in (
        ("V2", "bare FastAPI", 0.85),
        ("V2", "mlflow models serve", 2.0),
        ("/invocations", "mlflow models serve", 1.5),
        ("V2", "MLServer", 1.0),
    ):
        if reference in samples:
            yield from rate_ratios(
                f"{subject} / {reference}", samples[subject], samples[reference], limit
            )


def _samples(folder: Path, smoke: bool) -> dict[str, list[Rate]]:
    """The rate of each server, round by round."""
    model = train(folder)
    split = json.dumps({"dataframe_split": {"columns": COLUMNS, "data": [ROW]}}).encode()
    targets = targets_for(split)
    ports = {name: free_port() for name in targets}
    servers: dict[str, Server] = {}
    try:
        servers["V2"] = start_ours(ports["V2"], model, folder)
        servers["bare FastAPI"] = start_fastapi(ports["bare FastAPI"], model, folder)
        servers["mlflow models serve"] = start_mlflow(ports["mlflow models serve"], model, folder)
        if python := mlserver_environment(install=not smoke):
            servers["MLServer"] = start_mlserver(python, ports["MLServer"], model, folder)
        for name, server in servers.items():
            progress(f"waiting for {name}")
            server.wait(f"http://127.0.0.1:{ports[name]}{targets[name][2]}")
        count = CLIENTS if smoke else REQUESTS

        def load(name: str, path: str, body: bytes) -> Callable[[], Rate]:
            return lambda: servers[name].rate(
                ports[name], path, body, clients=CLIENTS, requests=count
            )

        subjects = {name: load(name, *targets[name][:2]) for name in servers}
        # The same body on both sides, for the comparison with MLflow's own protocol.
        subjects["/invocations"] = load("V2", "/invocations", split)
        return paired(subjects, 1 if smoke else ROUNDS)
    finally:
        for server in servers.values():
            server.stop()


def train(folder: Path) -> Path:
    """A trained model as MLflow saves it."""
    progress("training the model")
    model = folder / "model"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAIN.format(columns=COLUMNS, path=str(model))],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    return model


def targets_for(split: bytes) -> dict[str, tuple[str, bytes, str]]:
    """Of each server: the path and the body of a request, and the path that answers 200 once it is
    ready."""
    inputs = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
        for name, value in zip(COLUMNS, ROW, strict=True)
    ]
    v2 = json.dumps({"inputs": inputs}).encode()
    v2_frame = json.dumps({"inputs": inputs, "parameters": {"content_type": "pd"}}).encode()
    rows = json.dumps({"rows": [dict(zip(COLUMNS, ROW, strict=True))]}).encode()
    return {
        "V2": ("/v2/models/penguins/infer", v2, "/v2/health/ready"),
        "bare FastAPI": ("/predict", rows, "/health"),
        "mlflow models serve": ("/invocations", split, "/health"),
        "MLServer": ("/v2/models/penguins/infer", v2_frame, "/v2/models/penguins/ready"),
    }


def start_ours(port: int, model: Path, folder: Path, **more: str) -> Server:
    """Our model server with the prediction log; `more` are environment variables."""
    env = {
        "MLOPS_PREDICTION_LOG_SPOOL": str(folder / f"spool-{port}"),
        **more,
        "PORT": str(port),
        "MLOPS_ENDPOINT": "penguins",
        "MLOPS_MODEL_NAME": "penguins",
        "MLOPS_MODEL_VERSION": "1",
        "MLOPS_MODEL_URI": str(model),
        "MLOPS_PREDICTION_LOG": str(folder / "predictions"),
    }
    return Server(
        f"ours-{port}", [sys.executable, "-m", "pulumi_mlops.runtime.model_server"], env, folder
    )


def start_fastapi(port: int, model: Path, folder: Path) -> Server:
    """The endpoint in `fastapi_endpoint.py`."""
    command = [sys.executable, "-m", "uvicorn", "fastapi_endpoint:app", "--no-access-log"]
    command += ["--app-dir", str(Path(__file__).parent), "--port", str(port)]
    return Server("fastapi", command, {"MODEL_PATH": str(model)}, folder)


def start_mlflow(port: int, model: Path, folder: Path) -> Server:
    """MLflow's own scoring server."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["--workers", "1", "-m", str(model), "--host", "127.0.0.1", "-p", str(port)]
    # MLflow starts `uvicorn` and `python` from PATH.
    path = {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"}
    return Server("mlflow", command, path, folder)


def start_mlserver(python: Path, port: int, model: Path, folder: Path, **batching: float) -> Server:
    """MLServer without a pool of processes; `batching` are settings of the model."""
    home = folder / "mlserver"
    home.mkdir()
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
        "debug": False,
    }
    (home / "settings.json").write_text(json.dumps(settings))
    model_settings = {
        "name": "penguins",
        "implementation": "mlserver_mlflow.MLflowRuntime",
        "parameters": {"uri": str(model)},
        **batching,
    }
    (home / "model-settings.json").write_text(json.dumps(model_settings))
    return Server("mlserver", [str(python.parent / "mlserver"), "start", str(home)], {}, folder)


def mlserver_environment(*, install: bool) -> Path | None:
    """MLServer's interpreter, installed once under build/; None when it is not there."""
    home = ROOT / "build" / "bench-mlserver"
    python = home / "bin" / "python"
    if (python.parent / "mlserver").exists():
        return python
    if not install:
        return None
    progress("installing MLServer into an environment of its own")
    uv = [sys.executable, "-m", "uv"]
    try:
        subprocess.run(
            [*uv, "venv", "-q", "--clear", "-p", sys.executable, str(home)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        same = [f"{name}=={version(name)}" for name in ("mlflow", "scikit-learn", "pandas")]
        subprocess.run(
            [*uv, "pip", "install", "-q", "-p", str(python), *MLSERVER, *same],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        progress(f"MLServer cannot be installed, left out: {error.stderr.strip()[-300:]}")
        return None
    return python
