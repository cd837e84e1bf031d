"""Loads the data and computes its digest."""

import hashlib
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from palmerpenguins import load_penguins

from penguins.errors import PipelineError

NUMERIC = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
CATEGORICAL = {"sex": ["female", "male"]}
FEATURES = [*NUMERIC, *CATEGORICAL]
TARGET = "species"
SPECIES = ["Adelie", "Chinstrap", "Gentoo"]


def load(path: Path | None) -> pd.DataFrame:
    """Raw rows of a CSV file; without one, of the package palmerpenguins."""
    if path is None:
        return load_penguins()
    try:
        return pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas raises ValueError for invalid CSV
        raise PipelineError(f"--data {path} cannot be read as CSV: {error}") from None


def describe_source(path: Path | None) -> str:
    """The source of the rows, for the model card."""
    if path is None:
        return (
            f"palmerpenguins {version('palmerpenguins')} "
            "(Gorman, Williams & Fraser 2014, Palmer Station LTER, Antarctica, 2007-2009)"
        )
    return f"file {path.name}"


def canonical(frame: pd.DataFrame) -> pd.DataFrame:
    """Feature and target columns with sorted rows, without rows that have no measurement.

    Sorting makes the digest, the split and the model independent of the order of the source.
    """
    columns = [*FEATURES, TARGET]
    measured = frame.dropna(subset=NUMERIC, how="all")
    return measured[columns].sort_values(by=columns).reset_index(drop=True)


def digest(frame: pd.DataFrame) -> str:
    """SHA-256 over the rows as CSV, as `sha256:<64 hex digits>`: equal data, equal digest."""
    return "sha256:" + hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()
