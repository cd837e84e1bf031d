import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penguins.data import FEATURES, NUMERIC, SPECIES, TARGET, canonical, digest, load
from penguins.errors import PipelineError
from penguins.split import split
from penguins.validation import RANGES, DataError, validate


def test_packaged_data_is_valid(raw):
    valid = validate(raw)
    assert len(valid) == 344
    assert set(valid) == {*FEATURES, TARGET}
    assert [str(valid[name].dtype) for name in NUMERIC] == ["float64"] * 4


@pytest.mark.parametrize(
    ("column", "factor"),
    [
        ("bill_length_mm", 0.1),  # cm
        ("bill_depth_mm", 0.1),
        ("flipper_length_mm", 0.1),
        ("body_mass_g", 0.001),  # kg
        ("body_mass_g", 0.0022),  # pounds
        ("bill_length_mm", 1 / 25.4),  # inches
    ],
)
def test_every_row_in_a_wrong_unit_is_caught(raw, column, factor):
    raw[column] *= factor
    with pytest.raises(DataError, match=f"{column}: 342 x in_range") as caught:
        validate(raw)
    assert len(caught.value.cases) == 342


def test_swapped_columns_are_caught(raw):
    swap = {"bill_length_mm": "bill_depth_mm", "bill_depth_mm": "bill_length_mm"}
    with pytest.raises(DataError, match=r"bill_length_mm: 342 x .*bill_depth_mm: 342 x"):
        validate(raw.rename(columns=swap))


def test_an_error_names_column_count_rows_and_values(raw):
    raw.loc[[5, 9], "body_mass_g"] = [3.65, 4.25]
    raw.loc[11, "sex"] = "F"
    raw.loc[12, "species"] = "Emperor"
    with pytest.raises(DataError) as caught:
        validate(raw)
    text = str(caught.value)
    assert "body_mass_g: 2 x in_range(2000.0, 8000.0) (row 5: 3.65, row 9: 4.25)" in text
    assert "sex: 1 x isin(['female', 'male']) (row 11: F)" in text
    assert "species: 1 x isin" in text
    assert "row 12: Emperor" in text
    assert "\n" not in text
    assert caught.value.cases["index"].tolist() == [5, 9, 11, 12]


def test_long_lists_of_cases_are_cut_in_the_message_only(raw):
    raw["sex"] = "?"
    with pytest.raises(DataError, match=r"sex: 344 x .*row 4: \?, \.\.\.\)") as caught:
        validate(raw)
    assert "row 5:" not in str(caught.value)
    assert len(caught.value.cases) == 344


def test_missing_column_and_text_for_a_number_are_told_once(raw):
    raw["bill_depth_mm"] = "deep"
    with pytest.raises(DataError) as caught:
        validate(raw.drop(columns="sex"))
    told = caught.value.cases.groupby("column")["check"].unique().map(list).to_dict()
    assert told == {"sex": ["missing column"], "bill_depth_mm": ["coerce_dtype('float64')"]}


@pytest.mark.parametrize(("column", "share"), [("body_mass_g", "5%"), ("sex", "10%")])
def test_too_many_nulls_are_an_error(raw, column, share):
    raw.loc[::8, column] = None
    with pytest.raises(DataError, match=f"{column}: 1 x null share at most {share}"):
        validate(raw)


def test_species_may_not_be_null(raw):
    raw.loc[3, "species"] = None
    with pytest.raises(DataError, match="species: 1 x not_nullable"):
        validate(raw)


def test_too_few_rows_of_a_species_are_an_error(raw):
    few = raw[(raw["species"] != "Chinstrap") | (raw.groupby("species").cumcount() < 19)]
    with pytest.raises(DataError, match="species: 1 x at least 20 rows of each species"):
        validate(few)


@settings(max_examples=15)
@given(column=st.sampled_from(NUMERIC), low=st.booleans(), by=st.floats(1e-3, 1e6))
def test_any_value_outside_its_range_is_caught(column, low, by):
    raw = load(None)
    raw.loc[0, column] = RANGES[column][0] - by if low else RANGES[column][1] + by
    with pytest.raises(DataError, match=f"{column}: 1 x in_range"):
        validate(raw)


def test_rows_without_measurements_are_dropped(raw):
    rows = canonical(raw)
    assert len(rows) == 342
    assert rows[NUMERIC].notna().any(axis=1).all()
    assert rows["sex"].isna().sum() == 9


def test_digest_follows_the_rows_and_not_their_order(raw):
    rows = digest(canonical(raw))
    assert rows == digest(canonical(raw.sample(frac=1, random_state=1)))
    raw.loc[0, "body_mass_g"] += 1
    assert rows != digest(canonical(raw))


def test_a_file_that_is_no_csv_is_a_pipeline_error(tmp_path):
    (tmp_path / "empty.csv").touch()
    (tmp_path / "binary.csv").write_bytes(b"\x89PNG\r\n\xff\xfe")
    for name in ("empty.csv", "binary.csv"):
        with pytest.raises(PipelineError, match=f"--data .*{name} cannot be read as CSV"):
            load(tmp_path / name)


@settings(max_examples=20)
@given(test_size=st.floats(0.05, 0.5), seed=st.integers(0, 2**32 - 1))
def test_split_is_whole_stratified_and_reproducible(test_size, seed):
    rows = canonical(load(None))
    training, holdout = split(rows, test_size, seed)
    assert sorted([*training.index, *holdout.index]) == list(rows.index)
    assert abs(len(holdout) - test_size * len(rows)) <= 1
    for name in SPECIES:
        expected = (rows[TARGET] == name).mean() * len(holdout)
        assert abs((holdout[TARGET] == name).sum() - expected) <= 1
    assert split(rows, test_size, seed).holdout.equals(holdout)


def test_another_seed_is_another_split(raw):
    rows = canonical(raw)
    assert set(split(rows, 0.2, 1).holdout.index) != set(split(rows, 0.2, 2).holdout.index)
