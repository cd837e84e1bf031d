"""A model that doubles a number: MLflow's "models from code"."""

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Doubler(PythonModel):
    def predict(self, context, model_input: pd.DataFrame, params=None) -> list[float]:
        return [2 * value for value in model_input["number"]]


set_model(Doubler())
