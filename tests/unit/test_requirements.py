"""The requirements of a model server: the model's, and the server's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pulumi_mlops import runtime
from pulumi_mlops.requirements import with_model_server

SERVER_FILE = Path(runtime.__path__[0], "requirements-model-server.txt")
SERVER = [
    line for line in SERVER_FILE.read_text().splitlines() if line and not line.startswith("#")
]
LOCK = Path(__file__).parents[2] / "requirements.lock"


def test_the_servers_upper_bounds_are_the_locked_versions() -> None:
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", LOCK.read_text(), re.MULTILINE))
    shared_with_models = {"pyarrow", "boto3"}
    for line in SERVER:
        requirement = Requirement(line)
        upper = [each.version for each in requirement.specifier if each.operator == "<="]
        expected = [] if requirement.name in shared_with_models else [locked[requirement.name]]
        assert upper == expected, line
        assert requirement.specifier.contains(locked[requirement.name]), line


def test_a_requirement_of_the_model_replaces_the_servers() -> None:
    assert with_model_server(
        ["Prometheus_Client==0.20"], ["prometheus-client>=0.17", "orjson"]
    ) == [
        "Prometheus_Client==0.20",
        "orjson",
    ]


@pytest.mark.parametrize("mlflow", ["mlflow==2.9.2", "mlflow==2.12.2", "MLflow<2.15,>=2.9"])
def test_an_mlflow_that_imports_pkg_resources_gets_it(mlflow: str) -> None:
    assert "setuptools<81" in with_model_server([mlflow], SERVER)
    assert "setuptools<81" not in with_model_server([mlflow, "setuptools==68"], SERVER)


@pytest.mark.parametrize(
    "mlflow", ["mlflow==2.22.0", "mlflow>=2.9", "mlflow", "mlflow>=3.5,<4", "mlflow==3.17.2"]
)
def test_a_later_mlflow_gets_no_setuptools(mlflow: str) -> None:
    assert with_model_server([mlflow], SERVER) == [mlflow, *SERVER]
