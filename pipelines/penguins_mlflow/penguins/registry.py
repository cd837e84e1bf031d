"""The model registry: loads the champion, and registers a version completely or not at all."""

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
# The packages that a model server needs, without those for plots and validation.
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
    """The version with the alias `champion`, and its predictions for the hold-out."""

    version: str
    predicted: np.ndarray
    holdout_digest: str | None


def aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """The versions of a registered model by alias; empty if the model is not registered."""
    try:
        return {alias: str(v) for alias, v in client.get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return {}
        raise


def load_champion(client: MlflowClient, name: str, holdout: pd.DataFrame) -> Champion | None:
    """Load the champion and predict these rows; None if no version has the alias."""
    version = aliases(client, name).get(CHAMPION)
    if version is None:
        return None
    try:
        model = mlflow.pyfunc.load_model(f"models:/{name}/{version}")
        predicted = np.asarray(model.predict(holdout[FEATURES]))
    except Exception as error:  # the libraries of the model may raise any exception
        raise PipelineError(
            f"champion {name} version {version} cannot be loaded or does not predict ({error}): "
            f"repair it, or move the alias '{CHAMPION}' to a version that works"
        ) from error
    tags = client.get_model_version(name, version).tags
    return Champion(version, predicted, tags.get("holdout_digest"))


def log_model(model: Pipeline, example: pd.DataFrame) -> ModelInfo:
    """Store the model with the active run, without registering it."""
    return mlflow.sklearn.log_model(
        model,
        name="model",
        signature=SIGNATURE,
        input_example=example[FEATURES],
        # Explicit, because MLflow's detection loads the model in another process.
        pip_requirements=[f"{package}=={installed(package)}" for package in SERVING_PACKAGES],
        skops_trusted_types=[
            "numpy.dtype"
        ],  # type of the arrays in the model; loading it runs no code
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
    """Register a version and yield its number. An exception in the body reverts everything.

    The version gets the alias `challenger`, and with `promote` also `champion`. If the
    registration or the body fails, the aliases are restored and the version is deleted.
    """
    with ExitStack() as undo:
        previous_aliases = aliases(client, name)
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
            undo.callback(_delete_if_empty, client, name)
        # By run, not by number: the response with the number may be lost.
        undo.callback(_delete_versions_of_run, client, name, model.run_id)
        version = client.create_model_version(
            name,
            source=model.model_uri,
            run_id=model.run_id,
            tags=tags,
            model_id=model.model_id,
        ).version
        version = str(version)

        undo.callback(_restore_alias(client, name, CHALLENGER, previous_aliases.get(CHALLENGER)))
        client.set_registered_model_alias(name, CHALLENGER, version)
        if promote:
            current_champion = aliases(client, name).get(CHAMPION)
            if current_champion != compared_with:
                raise PipelineError(
                    f"the champion of {name} changed from {compared_with} to {current_champion} "
                    "during the run, so the comparison no longer holds: run again"
                )
            undo.callback(_restore_alias(client, name, CHAMPION, compared_with))
            client.set_registered_model_alias(name, CHAMPION, version)
        yield version
        undo.pop_all()


def _restore_alias(
    client: MlflowClient, name: str, alias: str, version: str | None
) -> Callable[[], None]:
    def restore() -> None:
        if version is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, version)

    return restore


def _delete_versions_of_run(client: MlflowClient, name: str, run_id: str) -> None:
    for model_version in client.search_model_versions(f"run_id = '{run_id}'"):
        if model_version.name == name:
            client.delete_model_version(name, model_version.version)


def _delete_if_empty(client: MlflowClient, name: str) -> None:
    # Another run may have registered a version in the meantime.
    if not client.search_model_versions(f"name = '{name}'"):
        client.delete_registered_model(name)
