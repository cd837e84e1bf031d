"""The whole run against a real MLflow store: SQLite in a temporary folder, no server."""

import json
from types import SimpleNamespace

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from penguins import pipeline
from penguins.cli import Settings, main
from penguins.errors import PipelineError
from penguins.registry import registered

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    mlflow.set_tracking_uri(None)  # as the environment says, whatever ran before
    mlflow.set_registry_uri(None)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where MLflow puts the artifacts of an SQLite store
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        # set_experiment changes both for the whole process
        patch.setenv("MLFLOW_EXPERIMENT_ID", "0")
        patch.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)
        yield folder


@pytest.fixture(scope="module")
def first(workspace):
    """A first run as on the platform, by main with MLOPS_OUTPUTS: its outputs and what it left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_OUTPUTS", str(workspace / "outputs.json"))
        assert main(["--seed", "7"]) == 0
    outputs = json.loads((workspace / "outputs.json").read_text())
    return SimpleNamespace(outputs=outputs, run_id=outputs["run_id"], state=state(MlflowClient()))


@pytest.fixture
def client(first):
    return MlflowClient()


def state(client, name="penguins"):
    """Everything that a failed run must leave as it was."""
    try:
        aliases = {a: str(v) for a, v in client.get_registered_model(name).aliases.items()}
    except MlflowException:
        return None
    return aliases, sorted(str(v.version) for v in client.search_model_versions(f"name = '{name}'"))


def champion(client, name="penguins"):
    return (state(client, name) or ({},))[0].get("champion")


def last_run(client):
    experiment = client.get_experiment_by_name("penguins")
    return client.search_runs([experiment.experiment_id], max_results=1)[0]


def files(client, run_id):
    return {item.path for item in client.list_artifacts(run_id)}


def test_first_run_is_champion_and_tells_so(client, first, workspace):
    assert first.outputs == {
        "model": "penguins",
        "version": "1",
        "run_id": client.get_model_version("penguins", "1").run_id,
        "accuracy": client.get_run(first.run_id).data.metrics["accuracy"],
        "champion": None,
        "promoted": True,
    }
    assert first.outputs["accuracy"] > 0.95
    assert first.state == ({"champion": "1", "challenger": "1"}, ["1"])
    tags = client.get_model_version("penguins", "1").tags
    assert tags["data_digest"].startswith("sha256:")
    assert tags["verdict"] == "promoted"
    assert not list(workspace.glob("*.partial"))


def test_run_is_tracked_with_its_report(client, first):
    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "7"
    assert run.data.params["data"].startswith("palmerpenguins 0.1.6")
    assert {"accuracy", "f1_macro", "recall_Gentoo", "accuracy_baseline"} <= set(run.data.metrics)
    assert files(client, first.run_id) == {
        "model_card.md",
        "confusion_matrix.png",
        "permutation_importance.png",
        "training.csv",
        "holdout.csv",
    }
    card = mlflow.artifacts.load_text(f"runs:/{first.run_id}/model_card.md")
    assert "no champion yet" in card


def test_registered_model_serves_species(client, penguin):
    model = mlflow.pyfunc.load_model("models:/penguins/1")
    assert model.predict(penguin()).tolist() == ["Adelie"]
    assert model.predict(penguin(sex=None)).tolist() == ["Adelie"]
    assert model.predict(model.input_example).tolist()[0] in {"Adelie", "Chinstrap", "Gentoo"}
    assert [column.name for column in model.metadata.signature.inputs] == [*penguin()]
    assert [str(kind) for kind in model.metadata.signature.outputs.input_types()] == [
        "DataType.string"
    ]
    with pytest.raises(MlflowException, match="sex"):
        model.predict(penguin().drop(columns="sex"))
    requirements = mlflow.artifacts.load_text("models:/penguins/1/requirements.txt").split()
    assert f"mlflow=={mlflow.__version__}" in requirements
    assert not any(line.startswith("matplotlib") for line in requirements)


def test_second_run_without_the_gain_stays_challenger(client, caplog):
    rival = champion(client)
    result = pipeline.run(Settings(seed=3, min_delta=0.5))
    assert (result["champion"], result["promoted"]) == (rival, False)
    aliases, versions = state(client)
    assert aliases == {"champion": rival, "challenger": result["version"]}
    assert result["version"] in versions
    run = client.get_run(result["run_id"])
    assert run.data.metrics["accuracy_champion"] > 0.9
    assert "trained on another split" in caplog.text


def test_second_run_with_an_equal_model_is_promoted(client):
    result = pipeline.run(Settings())
    assert result["promoted"] is True
    assert state(client)[0] == {"champion": result["version"], "challenger": result["version"]}


def test_below_the_floor_nothing_is_registered(client, workspace, monkeypatch):
    before = state(client)
    monkeypatch.setenv("MLOPS_OUTPUTS", str(workspace / "rejected.json"))
    assert main(["--regularization", "10000"]) == 1
    assert state(client) == before
    run = last_run(client)
    assert run.info.status == "FAILED"
    assert run.data.tags["verdict"] == "rejected"
    assert "model_card.md" in files(client, run.info.run_id)
    assert not (workspace / "rejected.json").exists()


def test_bad_data_fails_the_run_and_keeps_the_cases(client, workspace, raw):
    before = state(client)
    raw.loc[5, "body_mass_g"] = 3.65
    raw.to_csv(workspace / "bad.csv", index=False)
    with pytest.raises(PipelineError, match=r"body_mass_g: 1 x .*row 5: 3\.65"):
        pipeline.run(Settings(data=workspace / "bad.csv"))
    assert state(client) == before
    run = last_run(client)
    assert run.info.status == "FAILED"
    cases = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/validation_failures.csv")
    assert cases.splitlines()[1] == 'body_mass_g,"in_range(2000.0, 8000.0)",3.65,5'


@pytest.fixture
def stored(client, first):
    """The first run's model as that of a new run that is about to register it."""
    model = client.get_model_version("penguins", first.outputs["version"])
    run = client.create_run(client.get_experiment_by_name("penguins").experiment_id)
    return SimpleNamespace(
        model_uri=model.source, run_id=run.info.run_id, model_id=model.source.split("/")[-1]
    )


@pytest.mark.parametrize("name", ["penguins", "never-registered"])
@pytest.mark.parametrize("failure", [RuntimeError("disk full"), SystemExit(143)])
def test_a_failure_after_registration_takes_it_back(client, stored, name, failure):
    before, rival = state(client, name), champion(client, name)
    arguments = {"compared_with": rival, "promote": True}
    with (
        pytest.raises(type(failure)),
        registered(client, name, stored, {}, **arguments) as version,
    ):
        assert state(client, name)[0] == {"champion": version, "challenger": version}
        raise failure
    assert state(client, name) == before


def test_a_failing_promotion_takes_the_version_back(client, stored, monkeypatch):
    before, rival = state(client), champion(client)
    real = MlflowClient.set_registered_model_alias

    def fail_for_a_new_champion(self, name, alias, version):
        if alias == "champion" and version != rival:
            raise MlflowException("the server went away")
        real(self, name, alias, version)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", fail_for_a_new_champion)
    with (
        pytest.raises(MlflowException, match="went away"),
        registered(client, "penguins", stored, {}, compared_with=rival, promote=True),
    ):
        pytest.fail("it cannot have been registered")
    assert state(client) == before


def test_a_version_whose_number_never_came_is_deleted(client, stored, monkeypatch):
    before = state(client)
    real = MlflowClient.create_model_version

    def lose_the_answer(self, *args, **kwargs):
        real(self, *args, **kwargs)
        raise MlflowException("timeout")

    monkeypatch.setattr(MlflowClient, "create_model_version", lose_the_answer)
    with (
        pytest.raises(MlflowException, match="timeout"),
        registered(client, "penguins", stored, {}, compared_with=None, promote=False),
    ):
        pytest.fail("it cannot have been registered")
    assert state(client) == before


def test_a_champion_that_changed_meanwhile_is_not_overwritten(client, stored):
    before, rival = state(client), champion(client)
    with (
        pytest.raises(PipelineError, match=f"changed from 99 to {rival} during the run"),
        registered(client, "penguins", stored, {}, compared_with="99", promote=True),
    ):
        pytest.fail("it cannot have been registered")
    assert state(client) == before


def test_a_champion_that_cannot_be_loaded_is_told(client, monkeypatch):
    def fail(_):
        raise ValueError("unknown format")

    monkeypatch.setattr(mlflow.pyfunc, "load_model", fail)
    with pytest.raises(PipelineError, match=r"champion penguins version \d+ cannot be loaded"):
        pipeline.run(Settings())


def test_outputs_that_cannot_be_written_are_an_error_of_the_run(client, tmp_path):
    before = state(client)
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(PipelineError, match=r"MLOPS_OUTPUTS=.*taken\.json cannot be written"):
        pipeline.run(Settings(), tmp_path / "taken.json")
    assert state(client) == before
    assert [p.name for p in tmp_path.iterdir()] == ["taken.json"]
