"""Log and register a model with the MLflow of this interpreter: `python log_model.py NAME FOLDER`.

Prints JSON: the version, and the rows and predictions to compare. Runs in environments without the
package, from Python 3.10.
"""

import json
import sys

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main(name):
    random = np.random.RandomState(0)
    rows = pd.DataFrame(random.normal(size=(60, 3)), columns=["length", "width", "weight"])
    labels = np.where(rows["length"] + rows["width"] > 0, "large", "small")
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
    predictions = model.predict(rows)
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            model,
            "model",
            signature=infer_signature(rows, predictions),
            input_example=rows.head(2),
            registered_model_name=name,
        )
    version = max(
        int(each.version) for each in mlflow.MlflowClient().search_model_versions(f"name='{name}'")
    )
    print(
        "RESULT "
        + json.dumps(
            {
                "version": str(version),
                "columns": list(rows.columns),
                "rows": rows.values.tolist(),
                "predictions": predictions.tolist(),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
