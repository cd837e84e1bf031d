"""The model registry: finding the champion, and registering a version or nothing at all."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.types import ColSpec, DataType, Schema
from sklearn.pipeline import Pipeline

from penguins.data import CATEGORICAL, FEATURES, NUMERIC, TARGET
from penguins.errors import PipelineError

CHAMPION = "champion"
CHALLENGER = "challenger"
# What a server of the model needs; plotting and validation are for training alone.
SERVING_PACKAGES = ["mlflow", "scikit-learn", "skops", "pandas", "numpy", "scipy"]

SIGNATURE = ModelSignature(
    # Each column is required, but a value may be null: the model imputes it.
    inputs=Schema(
        [ColSpec(DataType.double, name) for name in NUMERIC]
        + [ColSpec(DataType.string, name) for name in CATEGORICAL]
    ),
    outputs=Schema([ColSpec(DataType.string, TARGET)]),
)


@dataclass(frozen=True)
class Champion:
    """The version that the alias `champion` points to, and what it predicts for the hold-out."""

    version: str
    predicted: np.ndarray
    holdout_digest: str | None


def aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Alias to version of a registered model; empty when the model is not registered yet."""
    try:
        return {alias: str(v) for alias, v in client.get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return {}
        raise


def champion_on(client: MlflowClient, name: str, holdout: pd.DataFrame) -> Champion | None:
    """The champion's predictions for these rows; None when no version has the alias."""
    version = aliases(client, name).get(CHAMPION)
    if version is None:
        return None
    try:
        model = mlflow.pyfunc.load_model(f"models:/{name}/{version}")
        predicted = np.asarray(model.predict(holdout[FEATURES]))
    except Exception as error:  # whatever its libraries raise
        raise PipelineError(
            f"champion {name} version {version} cannot be loaded or does not predict ({error}): "
            f"repair it, or move the alias '{CHAMPION}' to a version that works"
        ) from error
    tags = client.get_model_version(name, version).tags
    return Champion(version, predicted, tags.get("holdout_digest"))


def log_model(model: Pipeline, example: pd.DataFrame) -> ModelInfo:
    """Store the model with the active run; it is not in the registry yet."""
    return mlflow.sklearn.log_model(
        model,
        name="model",
        signature=SIGNATURE,
        input_example=example[FEATURES],
        # Named, since MLflow's own search for them loads the model in a process of its own.
        pip_requirements=[f"{package}=={installed(package)}" for package in SERVING_PACKAGES],
        skops_trusted_types=["numpy.dtype"],  # of the arrays inside; runs no code on loading
    )


@contextmanager
def registered(
    client: MlflowClient,
    name: str,
    model: ModelInfo,
    tags: dict[str, str],
    *,
    compared_with: str | None,
    promote: bool,
) -> Iterator[str]:
    """Register a version for as long as nothing fails, and yield its number.

    It gets the alias `challenger`, and `champion` too if it is to be promoted. Whatever fails
    or stops the body, or the registration itself, puts the aliases back and deletes the version.
    """
    with ExitStack() as undo:
        before = aliases(client, name)
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
            undo.callback(_delete_if_empty, client, name)
        # By its run and not by its number: the version may exist though its number never came.
        undo.callback(_delete_versions_of_run, client, name, model.run_id)
        version = client.create_model_version(
            name,
            source=model.model_uri,
            run_id=model.run_id,
            tags=tags,
            model_id=model.model_id,
        ).version
        version = str(version)

        undo.callback(_put_back(client, name, CHALLENGER, before.get(CHALLENGER)))
        client.set_registered_model_alias(name, CHALLENGER, version)
        if promote:
            now = aliases(client, name).get(CHAMPION)
            if now != compared_with:
                raise PipelineError(
                    f"the champion of {name} changed from {compared_with} to {now} during "
                    "the run, so the comparison no longer holds: run again"
                )
            undo.callback(_put_back(client, name, CHAMPION, compared_with))
            client.set_registered_model_alias(name, CHAMPION, version)
        yield version
        undo.pop_all()


def _put_back(
    client: MlflowClient, name: str, alias: str, version: str | None
) -> Callable[[], None]:
    def put_back() -> None:
        if version is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, version)

    return put_back


def _delete_versions_of_run(client: MlflowClient, name: str, run_id: str) -> None:
    for found in client.search_model_versions(f"run_id = '{run_id}'"):
        if found.name == name:
            client.delete_model_version(name, found.version)


def _delete_if_empty(client: MlflowClient, name: str) -> None:
    # Another run may have registered a version in the meantime.
    if not client.search_model_versions(f"name = '{name}'"):
        client.delete_registered_model(name)
