"""The model: preprocessing and classifier as one scikit-learn pipeline."""

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from penguins.data import CATEGORICAL, FEATURES, NUMERIC, TARGET


def build(regularization: float, seed: int) -> Pipeline:
    """An untrained pipeline that accepts missing values.

    Missing numbers are replaced by the median, an unknown sex sets no column. The categories are
    fixed, so None, NaN and unseen categories all mean "unknown".
    """
    preprocess = ColumnTransformer(
        [
            ("numeric", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMERIC),
            (
                "categorical",
                OneHotEncoder(
                    categories=list(CATEGORICAL.values()),
                    handle_unknown="ignore",
                    sparse_output=False,
                ),
                list(CATEGORICAL),
            ),
        ],
        verbose_feature_names_out=False,
    )
    classifier = LogisticRegression(C=1 / regularization, max_iter=1000, random_state=seed)
    return Pipeline([("preprocess", preprocess), ("classifier", classifier)])


def train(training: pd.DataFrame, regularization: float, seed: int) -> Pipeline:
    """A pipeline fitted on the training rows. It predicts names of species."""
    return build(regularization, seed).fit(training[FEATURES], training[TARGET])
