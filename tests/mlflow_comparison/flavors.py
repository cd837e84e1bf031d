"""Models of MLflow's flavors: scikit-learn, XGBoost, LightGBM, statsmodels and PyTorch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from mlflow.types import ColSpec, DataType, Schema
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from .case import Model, body

RANDOM = np.random.default_rng(7)
FRAME = pd.DataFrame(RANDOM.normal(size=(40, 3)), columns=["a", "b", "c"])
MATRIX = FRAME.to_numpy()
TARGET = MATRIX @ [1.0, -2.0, 0.5]
CLASSES = (TARGET > 0).astype(int)
LABELS = np.where(CLASSES, "yes", "no")
MIXED = pd.DataFrame(
    {
        "city": ["Bonn", "Köln"] * 20,
        "count": np.arange(40),
        "price": RANDOM.normal(size=40),
        "open": [True, False] * 20,
    }
)
TEXTS = ["good", "very good", "bad", "very bad"] * 10
NUMBERED = pd.DataFrame(MATRIX)
FEW = slice(0, 2)


def sklearn(estimator: Any, folder: Path, **options: Any) -> None:
    mlflow.sklearn.save_model(
        estimator, str(folder), pip_requirements=[], serialization_format="cloudpickle", **options
    )


def on_frame(folder: Path, estimator: Any, target: Any, frame: Any = FRAME, **options: Any) -> None:
    """With a signature and an example of the frame, unless the options say otherwise."""
    model = estimator.fit(frame, target)
    options.setdefault("signature", infer_signature(frame, model.predict(frame)))
    options.setdefault("input_example", frame[:2])
    sklearn(model, folder, **options)


def mixed(folder: Path) -> None:
    encoder = ColumnTransformer(
        [("city", OneHotEncoder(), ["city"])], remainder="passthrough", sparse_threshold=0
    )
    model = make_pipeline(encoder, HistGradientBoostingClassifier(max_iter=2))
    on_frame(folder, model, CLASSES, MIXED)


def wide(folder: Path) -> None:
    columns = [f"f{index}" for index in range(30)]
    frame = pd.DataFrame(RANDOM.normal(size=(40, 30)), columns=columns)
    on_frame(folder, LinearRegression(), TARGET, frame)


def narrow(folder: Path) -> None:
    """Columns of 32-bit floats and integers."""
    frame = pd.DataFrame({"f": MATRIX[:, 0].astype("f4"), "i": np.arange(40, dtype="i4")})
    on_frame(folder, LinearRegression(), TARGET, frame)


def probabilities(folder: Path) -> None:
    model = LogisticRegression().fit(FRAME, LABELS)
    sklearn(
        model,
        folder,
        pyfunc_predict_fn="predict_proba",
        signature=infer_signature(FRAME, model.predict_proba(FRAME)),
        input_example=FRAME.head(2),
    )


def text(folder: Path, example: Any = None) -> None:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, CLASSES[:40])
    sklearn(model, folder, input_example=example, signature=None if example else False)


def sparse(folder: Path) -> None:
    model = LinearRegression().fit(csr_matrix(MATRIX), TARGET)
    sklearn(model, folder, input_example=csr_matrix(MATRIX[FEW]))


def unnamed(folder: Path) -> None:
    schema = Schema([ColSpec(DataType.double)] * 3)
    model = LinearRegression().fit(MATRIX, TARGET)
    signature = mlflow.models.ModelSignature(inputs=schema)
    sklearn(model, folder, signature=signature, input_example=MATRIX[FEW].tolist())


def promised_integers(folder: Path) -> None:
    """The signature has the labels' type, the model answers floats."""
    signature = infer_signature(FRAME, CLASSES)
    on_frame(folder, LinearRegression(), TARGET, signature=signature)


def xgboost(folder: Path, *, booster: bool) -> None:
    import xgboost  # noqa: PLC0415

    if booster:
        data = xgboost.DMatrix(FRAME, TARGET)
        model: Any = xgboost.train({"max_depth": 2, "nthread": 1}, data, 2)
        answer = model.predict(data)
    else:
        model = xgboost.XGBClassifier(n_estimators=2, max_depth=2, n_jobs=1).fit(FRAME, CLASSES)
        answer = model.predict(FRAME)
    mlflow.xgboost.save_model(
        model, str(folder), signature=infer_signature(FRAME, answer),
        input_example=FRAME.head(2), pip_requirements=[],
    )  # fmt: skip


def lightgbm(folder: Path, *, booster: bool) -> None:
    import lightgbm  # noqa: PLC0415

    options = {"num_threads": 1, "verbose": -1, "min_data_in_leaf": 2}
    if booster:
        model: Any = lightgbm.train(options, lightgbm.Dataset(FRAME, TARGET), 2)
    else:
        model = lightgbm.LGBMClassifier(n_estimators=2, **options).fit(FRAME, LABELS)
    mlflow.lightgbm.save_model(
        model, str(folder), signature=infer_signature(FRAME, model.predict(FRAME)),
        input_example=FRAME.head(2), pip_requirements=[],
    )  # fmt: skip


def ols(folder: Path) -> None:
    import statsmodels.api  # noqa: PLC0415

    model = statsmodels.api.OLS(TARGET, FRAME).fit()
    mlflow.statsmodels.save_model(
        model, str(folder), signature=infer_signature(FRAME, model.predict(FRAME)),
        input_example=FRAME.head(2), pip_requirements=[],
    )  # fmt: skip


def forecast(folder: Path) -> None:
    """One row asks for as many predictions as there are steps from `start` to `end`."""
    from statsmodels.tsa.holtwinters import SimpleExpSmoothing  # noqa: PLC0415

    model = SimpleExpSmoothing(TARGET, initialization_method="estimated").fit()
    mlflow.statsmodels.save_model(
        model, str(folder), input_example=pd.DataFrame({"start": [40], "end": [43]}),
        pip_requirements=[],
    )  # fmt: skip


def torch(folder: Path) -> None:
    import torch  # noqa: PLC0415

    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    array = MATRIX.astype(np.float32)
    answer = model(torch.from_numpy(array)).detach().numpy()
    mlflow.pytorch.save_model(
        model, str(folder), signature=infer_signature(array, answer),
        input_example=array[FEW], pip_requirements=[],
    )  # fmt: skip


FORECAST = pd.DataFrame({"start": [40], "end": [43]})

MODELS = [
    Model("classifier", "sklearn", "columns", "frame",
          partial(on_frame, estimator=make_pipeline(StandardScaler(), LogisticRegression()),
                  target=LABELS), FRAME[FEW], many=True),
    Model("integer labels", "sklearn", "columns", "frame",
          partial(on_frame, estimator=LogisticRegression(), target=CLASSES), FRAME[FEW]),
    Model("numbered columns", "sklearn", "integer names", "frame",
          partial(on_frame, estimator=LinearRegression(), target=TARGET, frame=NUMBERED),
          NUMBERED[FEW]),
    Model("numbered columns, no example", "sklearn", "integer names", "none",
          partial(on_frame, estimator=LinearRegression(), target=TARGET, frame=NUMBERED,
                  input_example=None), NUMBERED[FEW]),
    Model("array", "sklearn", "tensor", "ndarray",
          partial(on_frame, estimator=LinearRegression(), target=TARGET, frame=MATRIX,
                  input_example=MATRIX[FEW]), MATRIX[FEW], many=True),
    Model("columns and array example", "sklearn", "columns", "ndarray",
          partial(on_frame, estimator=LinearRegression(), target=TARGET,
                  signature=infer_signature(NUMBERED.rename(columns=str)),
                  frame=MATRIX, input_example=MATRIX[FEW]),
          NUMBERED[FEW].rename(columns=str), refused="Model is missing inputs"),
    Model("no signature", "sklearn", "none", "none",
          partial(on_frame, estimator=LinearRegression(), target=TARGET, signature=False,
                  input_example=None), FRAME[FEW]),
    Model("no signature, frame", "sklearn", "none", "frame",
          partial(on_frame, estimator=KMeans(2, n_init=1), target=None, signature=False),
          FRAME[FEW]),
    Model("no signature, array", "sklearn", "none", "ndarray",
          partial(on_frame, estimator=LinearRegression(), target=TARGET, signature=False,
                  frame=MATRIX, input_example=MATRIX[FEW]), MATRIX[FEW]),
    Model("two targets", "sklearn", "columns", "frame",
          partial(on_frame, estimator=LinearRegression(), target=np.c_[TARGET, TARGET]),
          FRAME[FEW]),
    Model("probabilities", "sklearn", "columns", "frame", probabilities, FRAME[FEW]),
    Model("mixed columns", "sklearn", "columns", "frame", mixed, MIXED[FEW], many=True),
    Model("narrow types", "sklearn", "columns", "frame", narrow,
          pd.DataFrame({"f": np.float32([0.5, 1.5]), "i": np.int32([1, 2])})),
    Model("wide", "sklearn", "columns", "frame", wide,
          pd.DataFrame(RANDOM.normal(size=(2, 30)), columns=[f"f{i}" for i in range(30)])),
    Model("text, no signature", "sklearn", "none", "none", text, np.array(TEXTS[:2], dtype=object),
          bodies=(body("one text", {"inputs": "good"}), body("texts in a frame", {
              "dataframe_split": {"columns": ["text"], "data": [["good"], ["bad"]]}}))),
    Model("text, list example", "sklearn", "columns", "list", partial(text, example=TEXTS[:2]),
          np.array(TEXTS[:2], dtype=object)),
    Model("sparse", "sklearn", "tensor", "sparse", sparse, MATRIX[FEW]),
    Model("unnamed columns", "sklearn", "unnamed columns", "list", unnamed, MATRIX[FEW]),
    Model("promised integers", "sklearn", "columns", "frame", promised_integers, FRAME[FEW],
          refused="is FP64, the signature has INT64"),
    Model("XGBClassifier", "xgboost", "columns", "frame", partial(xgboost, booster=False),
          FRAME[FEW], needs="xgboost"),
    Model("Booster", "xgboost", "columns", "frame", partial(xgboost, booster=True), FRAME[FEW],
          many=True, needs="xgboost"),
    Model("LGBMClassifier", "lightgbm", "columns", "frame", partial(lightgbm, booster=False),
          FRAME[FEW], needs="lightgbm"),
    Model("lightgbm Booster", "lightgbm", "columns", "frame", partial(lightgbm, booster=True),
          FRAME[FEW], needs="lightgbm"),
    Model("OLS", "statsmodels", "columns", "frame", ols, FRAME[FEW]),
    Model("forecast", "statsmodels", "columns", "frame", forecast, FORECAST),
    Model("Linear", "pytorch", "tensor", "ndarray", torch, MATRIX[FEW].astype(np.float32),
          needs="torch"),
]  # fmt: skip
