"""Fits a line to noisy points and records the run in MLflow. It does not use Pulumi."""

import argparse
import json
import os
import random
import statistics
from pathlib import Path

import mlflow

parser = argparse.ArgumentParser()
parser.add_argument("--points", type=int, required=True)
parser.add_argument("--seed", type=int, required=True)
options = parser.parse_args()

source = random.Random(options.seed)  # noqa: S311 - noise, not a secret
x = [source.uniform(0, 10) for _ in range(options.points)]
y = [3 * value + 1 + source.gauss(0, 0.1) for value in x]
slope, intercept = statistics.linear_regression(x, y)

mlflow.set_experiment("line")
with mlflow.start_run() as run:
    mlflow.log_params(vars(options))
    mlflow.log_metrics({"slope": slope, "intercept": intercept})
    mlflow.log_dict({"slope": slope, "intercept": intercept}, "line.json")

# These values become the outputs of the pipeline in the Pulumi program.
result = {"run_id": run.info.run_id, "slope": round(slope, 2)}
Path(os.environ["MLOPS_OUTPUTS"]).write_text(json.dumps(result))
