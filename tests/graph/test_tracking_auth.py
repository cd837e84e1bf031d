"""A tracking server that asks for a user: who is given the credentials, and what shows them."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import pytest

import pulumi_mlops as mlops
from pulumi_mlops.tracking import _auth_ini

from .test_components import is_secret, opened, secrets_of, without_secrets

PASSWORD = "generated-tracking-admin-password"
PLATFORM: dict[str, Any] = {
    "pipelines": {"train": {"source": "train"}},
    "endpoints": {
        "live": {
            "model": "m",
            "pipeline": "train",
            "requirements": ["scikit-learn"],
            "traffic": {"1": 100},
        }
    },
}


def tracking(**args: Any) -> mlops.TrackingServer:
    store = mlops.ArtifactStore("store")
    return mlops.TrackingServer("tracking", {"artifact_store": store, "auth": True, **args})


def auth_ini(server: Any) -> configparser.SectionProxy:
    """The file as MLflow reads it."""
    content = server.inputs["files"]["auth.ini"]
    assert is_secret(content)
    parser = configparser.ConfigParser()
    parser.read_string(content.value)
    return parser["mlflow"]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_server_has_users_in_its_own_database(provision: Any, database: str) -> None:
    def program() -> dict[str, Any]:
        server = tracking(database=database)
        return {"env": server.client_env, "url": server.url}

    graph = provision(program)
    server = graph["tracking-server"]
    assert "mlflow[auth]==3.17.2" in graph["tracking-environment"].inputs["requirements"]
    command = server.inputs["command"]
    assert command[command.index("--app-name") + 1] == "basic-auth"
    env = server.inputs["env"]
    assert env["MLFLOW_AUTH_CONFIG_PATH"] == "$(FILES_DIR)/auth.ini"
    assert is_secret(env["MLFLOW_FLASK_SERVER_SECRET_KEY"])
    assert dict(auth_ini(server)) == {
        "database_uri": opened(env["MLFLOW_BACKEND_STORE_URI"]),
        "admin_username": "admin",
        "admin_password": PASSWORD,
        "default_permission": "READ",
        "auth_cache_ttl_seconds": "60",
    }
    assert graph.result["env"].secret
    assert graph.result["env"].value == {
        "MLFLOW_TRACKING_URI": graph.result["url"].value,
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
    }
    assert not graph.result["url"].secret


def test_a_percent_sign_in_a_path_is_no_interpolation() -> None:
    parser = configparser.ConfigParser()
    parser.read_string(_auth_ini(["sqlite:////100%/database.sqlite", "50%off"]))
    assert parser["mlflow"]["database_uri"] == "sqlite:////100%/database.sqlite"
    assert parser["mlflow"]["admin_password"] == "50%off"


@pytest.mark.parametrize("retain", [True, False])
def test_the_password_stays_as_long_as_the_data(provision: Any, retain: bool) -> None:
    graph = provision(lambda: tracking(retain=retain))
    assert graph["tracking-admin-password"].inputs["retain"] is retain
    assert graph["tracking-session-key"].inputs["retain"] is False


def test_every_client_is_given_the_credentials(provision: Any, project: Path) -> None:
    def program() -> dict[str, Any]:
        platform = mlops.MlopsPlatform("platform", {"tracking": {"auth": True}, **PLATFORM})
        return {"env": platform.client_env}

    graph = provision(program)
    password = "generated-platform-tracking-admin-password"
    for client in ("platform-train-pipeline-job", "platform-live-endpoint-v1-files"):
        env = graph[client].inputs["env"]
        assert env["MLFLOW_TRACKING_USERNAME"] == "admin"
        assert is_secret(env["MLFLOW_TRACKING_PASSWORD"])
        assert env["MLFLOW_TRACKING_PASSWORD"].value == password
        assert not is_secret(env["MLFLOW_TRACKING_URI"])
    # A model server runs code that came with the model.
    server = graph["platform-live-endpoint-v1"].inputs
    assert not {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"} & set(server["env"])
    assert secrets_of(server) == ["generated-platform-artifacts-predictions-key"]
    model = graph["platform-live-endpoint-v1-model"].inputs
    assert model["username"] == "admin"
    assert secrets_of(model) == [password]
    assert graph.result["env"].secret
    assert graph.result["env"].value["MLFLOW_TRACKING_PASSWORD"] == password
    settings = graph["platform-client-env"].inputs["content"]
    assert f"export MLFLOW_TRACKING_PASSWORD={password}\n" in opened(settings)
    shown = [each for each in graph.all.values() if password in repr(without_secrets(each.inputs))]
    assert shown == []


def test_a_run_may_be_another_user(provision: Any, project: Path) -> None:
    env = {"MLFLOW_TRACKING_USERNAME": "trainer", "MLFLOW_TRACKING_PASSWORD": "hers"}

    def program() -> None:
        mlops.MlopsPlatform(
            "platform", {"tracking": {"auth": True}, "training": {"env": env}, **PLATFORM}
        )

    given = opened(provision(program)["platform-train-pipeline-job"].inputs["env"])
    assert env.items() <= given.items()


def test_without_users_nothing_is_there(provision: Any, project: Path) -> None:
    plain = provision(lambda: tracking(auth=False))
    assert plain["tracking-environment"].inputs["requirements"][0] == "mlflow==3.17.2"
    assert "basic-auth" not in plain["tracking-server"].inputs["command"]
    assert "files" not in plain["tracking-server"].inputs
    assert set(plain.of("mlops:local:Secret")) == {
        "store-secret-key",
        "store-internal-key",
        "store-predictions-key",
    }
    graph = provision(lambda: mlops.MlopsPlatform("platform", PLATFORM))
    told = repr(graph.all)
    assert "MLFLOW_TRACKING_PASSWORD" not in told
    assert "username" not in told
