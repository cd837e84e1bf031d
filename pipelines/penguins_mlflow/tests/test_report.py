from dataclasses import replace

import numpy as np
import pytest
from penguins.data import FEATURES, SPECIES, TARGET
from penguins.evaluation import evaluate, importance
from penguins.gate import Decision
from penguins.registry import Champion
from penguins.report import LIMITS, Findings, model_card, plot_confusion, plot_importance


@pytest.fixture(scope="module")
def findings(parts, model):
    predicted = model.predict(parts.holdout[FEATURES])
    predicted[:3] = "Chinstrap"  # some mistakes to report on
    return Findings(
        model_name="penguins",
        parameters={"seed": 7, "data": "palmerpenguins 0.1.6"},
        split=parts,
        data_digest="sha256:abc",
        holdout_digest="sha256:def",
        evaluation=evaluate(parts.holdout[TARGET], predicted),
        baseline=0.4348,
        importance=importance(model, parts.holdout, 7),
        decision=Decision("kept", "it gained nothing"),
        champion=Champion("2", np.array([]), "sha256:def"),
        champion_accuracy=0.99,
    )


def test_card_holds_data_metrics_verdict_and_limits(findings):
    card = model_card(findings)
    assert card.startswith("# Model card: penguins\n")
    assert "**kept**: it gained nothing. Champion before this run: version 2.\n" in card
    assert "palmerpenguins 0.1.6" in card
    assert "`sha256:abc`" in card
    assert "273 rows for training, 69 held out" in card
    assert f"Accuracy **{findings.evaluation.accuracy:.4f}** on 69 rows (95 % interval 0." in card
    assert "would reach 0.4348" in card
    assert LIMITS in card
    assert "nan" not in card.lower()


def test_card_tables_hold_the_numbers(findings, parts):
    card = model_card(findings)
    for name, counts in zip(SPECIES, findings.evaluation.confusion, strict=True):
        assert f"| {name} | " + " | ".join(map(str, counts)) + " |" in card
        scores = findings.evaluation.per_class[name]
        assert (
            f"| {name} | {scores.precision:.3f} | {scores.recall:.3f} | {scores.f1:.3f} |" in card
        )
    assert "| Chinstrap | 54 | 14 |" in card
    assert "| sex | 9 | 2.6% |" in card
    widths = {line.count("|") for line in card.splitlines() if line.startswith("|")}
    assert widths == {4, 5}


def test_card_without_champion(findings):
    assert "Champion before this run: none." in model_card(replace(findings, champion=None))


def test_another_split_of_the_champion_is_told(findings):
    assert findings.comparison_warning == ""
    moved = replace(findings, champion=Champion("2", np.array([]), "sha256:other"))
    assert "Champion version 2 was trained on another split" in model_card(moved)


def test_metrics_and_tags(findings):
    assert findings.metrics()["accuracy_champion"] == 0.99
    assert findings.metrics()["accuracy_baseline"] == 0.4348
    assert "accuracy_champion" not in replace(findings, champion_accuracy=None).metrics()
    assert findings.tags()["accuracy"] == f"{findings.evaluation.accuracy:.6f}"
    assert findings.tags()["verdict"] == "kept"


def test_plots_are_images(findings, tmp_path):
    plot_confusion(findings.evaluation, tmp_path / "confusion.png")
    plot_importance(findings.importance, tmp_path / "importance.png")
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 5000
