"""The reference of the serving benchmark: the obvious FastAPI endpoint around a pyfunc model."""

import os

import mlflow
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = mlflow.pyfunc.load_model(os.environ["MODEL_PATH"])


class Penguin(BaseModel):
    """One row."""

    bill_length_mm: float
    bill_depth_mm: float
    flipper_length_mm: float
    body_mass_g: float


class Rows(BaseModel):
    """The request's body."""

    rows: list[Penguin]


@app.get("/health")
def health() -> dict[str, str]:
    """Answers once the model is loaded."""
    return {"status": "ok"}


@app.post("/predict")
def predict(body: Rows) -> dict[str, list[str]]:
    """Body to DataFrame to predictions to JSON."""
    frame = pd.DataFrame([row.model_dump() for row in body.rows])
    return {"predictions": model.predict(frame).tolist()}
