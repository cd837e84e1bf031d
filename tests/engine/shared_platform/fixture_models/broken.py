"""A model that loads, and fails every request: MLflow's "models from code"."""

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Broken(PythonModel):
    def predict(self, context, model_input: pd.DataFrame, params=None) -> list[str]:
        raise ValueError("broken on purpose")


set_model(Broken())
