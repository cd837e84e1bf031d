"""The split of the rows into training and hold-out."""

from typing import NamedTuple

import pandas as pd
from sklearn.model_selection import train_test_split

from penguins.data import TARGET


class Split(NamedTuple):
    """Training and hold-out rows, features and target together."""

    training: pd.DataFrame
    holdout: pd.DataFrame


def split(frame: pd.DataFrame, test_size: float, seed: int) -> Split:
    """Split the rows, stratified by species. The same rows and seed give the same split."""
    training, holdout = train_test_split(
        frame, test_size=test_size, random_state=seed, stratify=frame[TARGET]
    )
    return Split(training, holdout)
