"""The model card and the plots."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from penguins.data import FEATURES, SPECIES, TARGET
from penguins.evaluation import Evaluation
from penguins.gate import Decision
from penguins.registry import Champion
from penguins.split import Split

LIMITS = """\
- Intended for adult penguins of these three species around the Palmer Archipelago. The model cannot
  answer "none of them": it predicts one of the three species for any other bird.
- The measurements are from 2007 to 2009. If the population changes, train on new data.
- The island is not a feature: it determines the species in this data, but not elsewhere.
- Missing numbers are replaced by the median of the training rows; an unknown sex sets no column.
  Predictions are less reliable the more values are missing.
- The hold-out is small: use the interval, not the last digit."""


@dataclass(frozen=True)
class Findings:
    """All results of a run. Logged metrics, tags and files are made from them."""

    model_name: str
    parameters: Mapping[str, object]
    split: Split
    data_digest: str
    holdout_digest: str
    evaluation: Evaluation
    baseline: float  # accuracy of always predicting the most frequent species
    importance: pd.DataFrame
    decision: Decision
    champion: Champion | None
    champion_accuracy: float | None

    def metrics(self) -> dict[str, float]:
        """Metrics of the run: the evaluation, the baseline and the champion's accuracy."""
        flat = self.evaluation.metrics() | {"accuracy_baseline": self.baseline}
        if self.champion_accuracy is not None:
            flat["accuracy_champion"] = self.champion_accuracy
        return flat

    def tags(self) -> dict[str, str]:
        """Tags of the run and of the registered version."""
        return {
            "data_digest": self.data_digest,
            "holdout_digest": self.holdout_digest,
            "verdict": self.decision.verdict,
            "accuracy": f"{self.evaluation.accuracy:.6f}",
            "f1_macro": f"{self.evaluation.macro.f1:.6f}",
        }

    @property
    def comparison_warning(self) -> str:
        """A warning if the champion may have been trained on this hold-out; otherwise empty."""
        if self.champion is None or self.champion.holdout_digest == self.holdout_digest:
            return ""
        return (
            f"Champion version {self.champion.version} was trained on another split, possibly with "
            "rows of this hold-out, which favours it in the comparison."
        )


def model_card(findings: Findings) -> str:
    """The model card in Markdown (sections after Mitchell et al., Model Cards, 2019)."""
    evaluation, decision, split = findings.evaluation, findings.decision, findings.split
    champion = f"version {findings.champion.version}" if findings.champion else "none"
    low, high = evaluation.accuracy_interval
    rows = pd.concat([split.training, split.holdout])
    sections = [
        f"# Model card: {findings.model_name}",
        "Predicts the species of a penguin (" + ", ".join(SPECIES) + ") from its measurements. "
        "Logistic regression over imputed, scaled and one-hot encoded features.",
        "## Verdict",
        f"**{decision.verdict}**: {decision.reason}. "
        f"Champion before this run: {champion}. {findings.comparison_warning}".strip(),
        "## Data",
        f"- Source: {findings.parameters['data']}\n- Digest: `{findings.data_digest}`\n"
        f"- {len(split.training)} rows for training, {len(split.holdout)} held out, "
        "stratified by species",
        _table(
            ["species", "training", "hold-out"],
            [[s, *(str((part[TARGET] == s).sum()) for part in split)] for s in SPECIES],
        ),
        _table(
            ["feature", "missing", "of all rows"],
            [[f, str(rows[f].isna().sum()), f"{rows[f].isna().mean():.1%}"] for f in FEATURES],
        ),
        "## Parameters",
        "\n".join(f"- {key}: `{value}`" for key, value in findings.parameters.items()),
        "## Results on the hold-out",
        f"Accuracy **{evaluation.accuracy:.4f}** on {evaluation.rows} rows "
        f"(95 % interval {low:.3f} to {high:.3f}); always predicting the most frequent species "
        f"would reach {findings.baseline:.4f}.",
        _table(
            ["", "precision", "recall", "F1"],
            [
                [label, *(f"{value:.3f}" for value in vars(scores).values())]
                for label, scores in {**evaluation.per_class, "macro": evaluation.macro}.items()
            ],
        ),
        "Number of rows by true species (rows) and predicted species (columns):",
        _table(
            ["", *SPECIES],
            [
                [s, *map(str, counts)]
                for s, counts in zip(SPECIES, evaluation.confusion, strict=True)
            ],
        ),
        "Accuracy lost when a feature is shuffled:",
        _table(
            ["feature", "mean", "std"],
            [
                [str(feature), f"{row['mean']:.3f}", f"{row['std']:.3f}"]
                for feature, row in findings.importance.iterrows()
            ],
        ),
        "## Limits",
        LIMITS,
    ]
    return "\n\n".join(sections) + "\n"


def plot_confusion(evaluation: Evaluation, path: Path) -> None:
    """Confusion matrix as PNG, with the counts written in."""
    figure = Figure(figsize=(5, 4.2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(evaluation.confusion, cmap="Blues", vmin=0)
    axes.set_xticks(range(len(SPECIES)), SPECIES)
    axes.set_yticks(range(len(SPECIES)), SPECIES)
    axes.set(xlabel="predicted", ylabel="true", title=f"Hold-out, {evaluation.rows} rows")
    dark = evaluation.confusion.max() / 2
    for row, counts in enumerate(evaluation.confusion):
        for column, count in enumerate(counts):
            colour = "white" if count > dark else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
    figure.colorbar(image, label="rows")
    figure.savefig(path, dpi=120)


def plot_importance(importance: pd.DataFrame, path: Path) -> None:
    """Permutation importance as PNG: mean over the shuffles, with the standard deviation."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.barh(importance.index, importance["mean"], xerr=importance["std"], capsize=3)
    axes.invert_yaxis()
    axes.set(xlabel="accuracy lost when shuffled", title="Permutation importance")
    figure.savefig(path, dpi=120)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
