"""A model that answers its input example, and fails every other request."""

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Picky(PythonModel):
    def predict(self, context, model_input: pd.DataFrame, params=None) -> list[str]:
        if (model_input["body_mass_g"] != 1.0).any():
            raise ValueError("a heavy penguin")
        return ["Adelie"] * len(model_input)


set_model(Picky())
