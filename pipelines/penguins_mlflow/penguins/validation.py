"""The validation of the data before training."""

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from penguins.data import CATEGORICAL, SPECIES, TARGET
from penguins.errors import PipelineError

# Wide enough for every adult of the three species, narrow enough to detect wrong units (cm for mm,
# kg for g) and swapped columns.
RANGES = {
    "bill_length_mm": (25.0, 70.0),
    "bill_depth_mm": (10.0, 24.0),
    "flipper_length_mm": (140.0, 270.0),
    "body_mass_g": (2000.0, 8000.0),
}
MAX_NULL_SHARE = {**dict.fromkeys(RANGES, 0.05), "sex": 0.10}
MIN_ROWS_PER_SPECIES = 20
CASES_SHOWN = 5


class DataError(PipelineError):
    """The data violates its schema.

    `cases` has one row for each failing value: column, check, failure_case, index.
    """

    def __init__(self, message: str, cases: pd.DataFrame) -> None:
        super().__init__(message)
        self.cases = cases


def validate(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its known columns and numbers as floats. Raises DataError if it is invalid."""
    try:
        return schema().validate(frame, lazy=True)
    except SchemaErrors as errors:
        cases = _without_consequences(errors.failure_cases)
        raise DataError(summary(cases), cases) from None


def schema() -> pa.DataFrameSchema:
    """Ranges, categories, null shares and class sizes of the penguin data."""
    numeric = {
        name: pa.Column(
            float,
            [pa.Check.in_range(low, high), _null_share(MAX_NULL_SHARE[name])],
            nullable=True,
            coerce=True,
        )
        for name, (low, high) in RANGES.items()
    }
    categorical = {
        name: pa.Column(
            checks=[pa.Check.isin(values), _null_share(MAX_NULL_SHARE[name])], nullable=True
        )
        for name, values in CATEGORICAL.items()
    }
    target = pa.Column(checks=[pa.Check.isin(SPECIES), _class_sizes()])
    return pa.DataFrameSchema({**numeric, **categorical, TARGET: target}, strict="filter")


def summary(cases: pd.DataFrame) -> str:
    """One line: each failed check with its column, count and first cases."""
    parts = []
    for (column, check), group in cases.groupby(["column", "check"], dropna=False, sort=False):
        first = group.head(CASES_SHOWN)
        shown = [
            str(case) if pd.isna(row) else f"row {row}: {case}"  # no row: the whole column failed
            for row, case in zip(first["index"], first["failure_case"], strict=True)
        ]
        more = ", ..." if len(group) > CASES_SHOWN else ""
        parts.append(f"{column}: {len(group)} x {check} ({', '.join(shown)}{more})")
    return "the data is not valid: " + "; ".join(parts)


def _without_consequences(cases: pd.DataFrame) -> pd.DataFrame:
    """Pandera's failure cases without consequences: text in a number column fails all checks."""
    missing = cases["check"] == "column_in_dataframe"
    cases = cases.assign(
        column=cases["column"].where(~missing, cases["failure_case"]),
        check=cases["check"].where(~missing, "missing column"),
    )
    no_number = cases["check"].str.startswith("coerce_dtype")
    broken = cases.loc[no_number, "column"]
    cases = cases[no_number | ~cases["column"].isin(broken)]
    return cases[["column", "check", "failure_case", "index"]].reset_index(drop=True)


def _null_share(limit: float) -> pa.Check:
    return pa.Check(
        lambda values: bool(values.isna().mean() <= limit),
        ignore_na=False,
        error=f"null share at most {limit:.0%}",
    )


def _class_sizes() -> pa.Check:
    return pa.Check(
        lambda values: all((values == name).sum() >= MIN_ROWS_PER_SPECIES for name in SPECIES),
        error=f"at least {MIN_ROWS_PER_SPECIES} rows of each species",
    )
