"""The steps of a run in their order, tracked in MLflow."""

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from sklearn.pipeline import Pipeline

from penguins import data, outputs
from penguins.cli import Settings
from penguins.data import FEATURES, TARGET
from penguins.errors import PipelineError
from penguins.evaluation import evaluate, importance
from penguins.gate import decide
from penguins.outputs import Outputs
from penguins.registry import load_champion, log_model, registered
from penguins.report import Findings, model_card, plot_confusion, plot_importance
from penguins.split import Split, split
from penguins.training import train
from penguins.validation import DataError, validate

log = logging.getLogger(__name__)


def run(settings: Settings, outputs_file: Path | None = None) -> Outputs:
    """Run all steps. Raises PipelineError if the model is not registered."""
    with _step("connect"):
        mlflow.set_experiment(settings.experiment)
        client = MlflowClient()
    with mlflow.start_run() as active:
        log.info("run %s in experiment %s", active.info.run_id, settings.experiment)
        mlflow.log_params(_parameters(settings))
        with _step("validate"):
            rows = _valid_rows(settings.data)
        with _step("split"):
            parts = split(rows, settings.test_size, settings.seed)
            log.info("%d rows for training, %d held out", len(parts.training), len(parts.holdout))
        with _step("train"):
            model = train(parts.training, settings.regularization, settings.seed)
        with _step("evaluate"):
            findings = _evaluate(client, settings, parts, model)
        with _step("report"):
            _report(findings)
        if findings.decision.verdict == "rejected":
            raise PipelineError(
                f"the model is not registered: {findings.decision.reason}; see the model card, "
                "then change the data, --regularization or --min-accuracy"
            )
        with _step("register"):
            return _register(client, findings, model, active.info.run_id, outputs_file)


def _parameters(settings: Settings) -> dict[str, object]:
    return {**asdict(settings), "data": data.describe_source(settings.data)}


def _valid_rows(source: Path | None) -> pd.DataFrame:
    raw = data.load(source)
    try:
        rows = data.canonical(validate(raw))
    except DataError as error:
        mlflow.log_text(error.cases.to_csv(index=False), "validation_failures.csv")
        raise
    log.info("%d rows are valid, %d of them have measurements", len(raw), len(rows))
    return rows


def _evaluate(client: MlflowClient, settings: Settings, parts: Split, model: Pipeline) -> Findings:
    truth = parts.holdout[TARGET]
    evaluation = evaluate(truth, model.predict(parts.holdout[FEATURES]))
    log.info("accuracy %.4f, macro F1 %.4f", evaluation.accuracy, evaluation.macro.f1)

    champion = load_champion(client, settings.model_name, parts.holdout)
    champion_accuracy = evaluate(truth, champion.predicted).accuracy if champion else None
    decision = decide(
        evaluation.accuracy, champion_accuracy, settings.min_accuracy, settings.min_delta
    )
    log.info("%s: %s", decision.verdict, decision.reason)

    findings = Findings(
        model_name=settings.model_name,
        parameters=_parameters(settings),
        split=parts,
        data_digest=data.digest(data.canonical(pd.concat(parts))),
        holdout_digest=data.digest(parts.holdout),
        evaluation=evaluation,
        baseline=float((truth == parts.training[TARGET].mode()[0]).mean()),
        importance=importance(model, parts.holdout, settings.seed),
        decision=decision,
        champion=champion,
        champion_accuracy=champion_accuracy,
    )
    if findings.comparison_warning:
        log.warning("%s", findings.comparison_warning)
    return findings


def _report(findings: Findings) -> None:
    mlflow.log_metrics(findings.metrics())
    mlflow.set_tags(findings.tags())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model_card.md").write_text(model_card(findings))
        plot_confusion(findings.evaluation, folder / "confusion_matrix.png")
        plot_importance(findings.importance, folder / "permutation_importance.png")
        findings.split.training.to_csv(folder / "training.csv", index=False)
        findings.split.holdout.to_csv(folder / "holdout.csv", index=False)
        mlflow.log_artifacts(name)


def _register(
    client: MlflowClient,
    findings: Findings,
    model: Pipeline,
    run_id: str,
    outputs_file: Path | None,
) -> Outputs:
    name = findings.model_name
    promote = findings.decision.verdict == "promoted"
    champion = findings.champion.version if findings.champion else None
    stored = log_model(model, example=findings.split.training.dropna().head(1))
    with registered(
        client, name, stored, findings.tags(), compared_with=champion, promote=promote
    ) as version:
        result = Outputs(
            model=name,
            version=version,
            run_id=run_id,
            accuracy=findings.evaluation.accuracy,
            champion=champion,
            promoted=promote,
        )
        if outputs_file:
            outputs.write(result, outputs_file)
    log.info("registered %s version %s", name, version)
    return result


@contextmanager
def _step(name: str) -> Iterator[None]:
    log.info("step %s", name)
    start = time.monotonic()
    yield
    log.info("step %s took %.2f s", name, time.monotonic() - start)
