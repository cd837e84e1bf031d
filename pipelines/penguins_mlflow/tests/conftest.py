"""Fixtures, and the pipeline folder on the path: it is the working directory of a run."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import settings

FOLDER = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(FOLDER))

from penguins.data import canonical, load  # noqa: E402
from penguins.split import split  # noqa: E402
from penguins.training import train  # noqa: E402
from penguins.validation import validate  # noqa: E402

# How long an example takes says something about the machine, not about the code.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


@pytest.fixture(scope="session")
def folder():
    return FOLDER


@pytest.fixture
def raw():
    return load(None)


@pytest.fixture(scope="session")
def parts():
    return split(canonical(validate(load(None))), test_size=0.2, seed=7)


@pytest.fixture(scope="session")
def model(parts):
    return train(parts.training, regularization=1.0, seed=7)


@pytest.fixture(scope="session")
def penguin():
    """A function that creates one row. Default: an average Adelie."""

    def make(**changes):
        average = {
            "bill_length_mm": 38.8,
            "bill_depth_mm": 18.3,
            "flipper_length_mm": 190.0,
            "body_mass_g": 3700.0,
            "sex": "female",
        }
        return pd.DataFrame([{**average, **changes}])

    return make
