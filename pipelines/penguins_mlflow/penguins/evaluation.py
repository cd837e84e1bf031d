"""Metrics of the predictions on the hold-out, and the importance of the features."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.inspection import permutation_importance
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from sklearn.pipeline import Pipeline

from penguins.data import FEATURES, SPECIES, TARGET


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1, each 0 to 1; 0 if a class was never predicted or present."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Evaluation:
    """Results on the hold-out. `confusion` has a row for each true species."""

    rows: int
    accuracy: float
    accuracy_interval: tuple[float, float]  # Wilson, 95 %
    macro: Scores
    per_class: dict[str, Scores]
    confusion: np.ndarray

    def metrics(self) -> dict[str, float]:
        """The metrics by name, as MLflow logs them."""
        flat = {"accuracy": self.accuracy}
        for name, scores in {"macro": self.macro, **self.per_class}.items():
            flat |= {f"{metric}_{name}": value for metric, value in vars(scores).items()}
        return flat


def evaluate(truth: pd.Series, predicted: np.ndarray) -> Evaluation:
    """Compare predicted with true species."""
    columns = precision_recall_fscore_support(truth, predicted, labels=SPECIES, zero_division=0)
    triples = np.array(columns[:3]).T
    correct, rows = int((truth.to_numpy() == predicted).sum()), len(truth)
    interval = binomtest(correct, rows).proportion_ci(0.95, method="wilson")
    return Evaluation(
        rows=rows,
        accuracy=correct / rows,
        accuracy_interval=(float(interval.low), float(interval.high)),
        macro=Scores(*map(float, triples.mean(axis=0))),
        per_class={
            name: Scores(*map(float, triple)) for name, triple in zip(SPECIES, triples, strict=True)
        },
        confusion=confusion_matrix(truth, predicted, labels=SPECIES),
    )


def importance(model: Pipeline, holdout: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Accuracy lost when a feature is shuffled: mean and std over 10 shuffles, largest first."""
    result = permutation_importance(
        model,
        holdout[FEATURES],
        holdout[TARGET],
        scoring="accuracy",
        n_repeats=10,
        random_state=seed,
    )
    return pd.DataFrame(
        {"mean": result.importances_mean, "std": result.importances_std}, index=FEATURES
    ).sort_values("mean", ascending=False)
