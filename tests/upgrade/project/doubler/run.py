"""Registers the next version of a model: `python run.py --name doubler`."""

import argparse
import json
import os
import sys
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import infer_signature

parser = argparse.ArgumentParser()
parser.add_argument("--name", default="doubler")
name = parser.parse_args().name
if os.environ.get("RANK", "0") != "0":
    sys.exit()  # another worker registers it
example = pd.DataFrame({"number": [21.0]})
mlflow.set_experiment(name)
with mlflow.start_run():
    logged = mlflow.pyfunc.log_model(
        name="model",
        python_model=str(Path(__file__).with_name("model.py")),
        signature=infer_signature(example, [42.0]),
        input_example=example,
        registered_model_name=name,
        pip_requirements=[],
    )
Path(os.environ["MLOPS_OUTPUTS"]).write_text(
    json.dumps({"version": str(logged.registered_model_version)})
)
