import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penguins.data import CATEGORICAL, FEATURES, NUMERIC, SPECIES, TARGET, canonical, load
from penguins.evaluation import evaluate, importance
from penguins.split import split
from penguins.training import train
from sklearn.dummy import DummyClassifier


def accuracy(model, rows):
    return float((model.predict(rows[FEATURES]) == rows[TARGET]).mean())


@pytest.mark.parametrize("seed", [1, 7, 42])
def test_beats_the_baseline_on_any_split(raw, seed):
    training, holdout = split(canonical(raw), 0.3, seed)
    model = train(training, 1.0, seed)
    baseline = DummyClassifier().fit(training[FEATURES], training[TARGET])
    assert accuracy(model, holdout) > 0.95
    assert accuracy(model, holdout) > accuracy(baseline, holdout) + 0.4


def test_predicts_species_by_name(model, penguin):
    predicted = model.predict(penguin())
    assert predicted.tolist() == ["Adelie"]
    assert model.classes_.tolist() == SPECIES


def test_same_rows_in_any_order_train_the_same_model(parts):
    def coefficients(frame):
        rows = canonical(frame)
        return train(split(rows, 0.2, 7).training, 1.0, 7)["classifier"].coef_

    raw = load(None)
    assert np.array_equal(coefficients(raw), coefficients(raw.sample(frac=1, random_state=3)))


def test_a_prediction_does_not_depend_on_its_batch_or_on_column_order(model, parts):
    rows = parts.holdout[FEATURES]
    batch = model.predict(rows)
    alone = [model.predict(rows.iloc[[i]])[0] for i in range(len(rows))]
    assert batch.tolist() == alone
    assert model.predict(rows[FEATURES[::-1]]).tolist() == alone
    assert model.predict(rows.iloc[::-1]).tolist() == alone[::-1]


@pytest.mark.parametrize("column", NUMERIC)
def test_a_missing_number_counts_as_the_median(model, parts, penguin, column):
    median = parts.training[column].median()
    missing = model.predict_proba(penguin(**{column: None}).astype({column: float}))
    assert np.allclose(missing, model.predict_proba(penguin(**{column: median})))


def test_every_kind_of_unknown_sex_is_the_same(model, penguin):
    probabilities = [
        model.predict_proba(pd.concat([penguin(), penguin(sex=sex)]))[1]
        for sex in (None, float("nan"), "unheard of")
    ]
    assert np.allclose(probabilities, probabilities[0])
    encoded = model["preprocess"].transform(penguin(sex=None))
    assert encoded.shape == (1, len(NUMERIC) + len(CATEGORICAL["sex"]))
    assert encoded[0, -2:].tolist() == [0, 0]


def test_numbers_are_scaled_on_the_training_rows(model, parts):
    scaled = model["preprocess"].transform(parts.training[FEATURES])[:, : len(NUMERIC)]
    assert np.allclose(scaled.mean(axis=0), 0, atol=1e-9)
    assert np.allclose(scaled.std(axis=0), 1)


@settings(max_examples=20)
@given(step=st.floats(0.5, 10))
def test_a_longer_bill_is_less_an_adelie(model, penguin, step):
    before, after = (
        model.predict_proba(penguin(bill_length_mm=length))[0] for length in (38.8, 38.8 + step)
    )
    assert after[SPECIES.index("Adelie")] < before[SPECIES.index("Adelie")]


@pytest.mark.parametrize(
    ("column", "value"),
    [("bill_depth_mm", 14.0), ("flipper_length_mm", 220.0), ("body_mass_g", 5500.0)],
)
def test_shallow_bill_long_flipper_and_weight_speak_for_gentoo(model, penguin, column, value):
    gentoo = SPECIES.index("Gentoo")
    changed = model.predict_proba(penguin(**{column: value}))[0][gentoo]
    assert changed > model.predict_proba(penguin())[0][gentoo]


def test_more_regularization_is_a_simpler_model(parts):
    weak, strong = (
        np.abs(train(parts.training, r, 7)["classifier"].coef_).sum() for r in (0.1, 100)
    )
    assert strong < weak / 2


species = st.sampled_from(SPECIES)
few_examples = settings(max_examples=25)


@few_examples
@given(st.lists(species, min_size=1, max_size=60))
def test_perfect_predictions_score_one(truth):
    result = evaluate(pd.Series(truth), np.array(truth))
    assert result.accuracy == 1
    assert all(result.per_class[name].f1 == 1 for name in set(truth))
    assert result.accuracy_interval[1] == pytest.approx(1)


@few_examples
@given(st.lists(st.tuples(species, species), min_size=1, max_size=60))
def test_scores_agree_with_the_confusion_matrix(pairs):
    truth, predicted = zip(*pairs, strict=True)
    result = evaluate(pd.Series(truth), np.array(predicted))
    assert result.confusion.sum() == result.rows == len(pairs)
    assert result.accuracy == pytest.approx(np.trace(result.confusion) / len(pairs))
    for place, name in enumerate(SPECIES):
        present = result.confusion[place].sum()
        recall = result.confusion[place, place] / present if present else 0
        assert result.per_class[name].recall == pytest.approx(recall)
    assert result.macro.f1 == pytest.approx(np.mean([s.f1 for s in result.per_class.values()]))
    low, high = result.accuracy_interval
    assert 0 <= low <= result.accuracy + 1e-9
    assert result.accuracy - 1e-9 <= high <= 1 + 1e-9


def test_metric_names_are_those_of_the_run(parts):
    truth = parts.holdout[TARGET]
    assert set(evaluate(truth, truth.to_numpy()).metrics()) == {"accuracy"} | {
        f"{metric}_{of}" for metric in ("precision", "recall", "f1") for of in ("macro", *SPECIES)
    }


def test_importance_ranks_the_bill_first_and_is_reproducible(model, parts):
    first = importance(model, parts.holdout, seed=1)
    assert first.index[0] == "bill_length_mm"
    assert first["mean"].is_monotonic_decreasing
    assert first.equals(importance(model, parts.holdout, seed=1))
