"""The model server's environment variables."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pulumi_mlops.runtime.model_server.settings import ModelServerSettings, SettingsError

GOOD = {
    "MLOPS_ENDPOINT": "flowers",
    "MLOPS_MODEL_NAME": "iris",
    "MLOPS_MODEL_VERSION": "7",
    "MLFLOW_TRACKING_URI": "http://tracking:5000",
}


def test_the_model_is_that_of_the_registry_and_the_server_listens_on_loopback():
    settings = ModelServerSettings.from_env(GOOD)
    assert settings.model_uri == "models:/iris/7"
    assert settings.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MLOPS_ENDPOINT": ""}, "MLOPS_ENDPOINT is not set"),
        ({"MLOPS_MODEL_NAME": " "}, "MLOPS_MODEL_NAME is not set"),
        ({"MLOPS_MODEL_VERSION": ""}, "MLOPS_MODEL_VERSION is not set"),
        ({"MLOPS_MODEL_NAME": "a/b"}, "MLOPS_MODEL_NAME must not contain '/'"),
        ({"MLFLOW_TRACKING_URI": ""}, "MLFLOW_TRACKING_URI is not set; the model models:/iris/7"),
        ({"PORT": "x"}, "PORT is 'x'; it must be a whole number from 0 to 65535"),
        ({"PORT": "70000"}, "PORT is '70000'; it must be a whole number from 0 to 65535"),
        ({"MLOPS_INFERENCE_THREADS": "0"}, "MLOPS_INFERENCE_THREADS is '0'; it must be a whole"),
        ({"MLOPS_DRAIN_SECONDS": "-1"}, "MLOPS_DRAIN_SECONDS is '-1'; it must be a number of sec"),
        ({"MLOPS_DRAIN_SECONDS": "nan"}, "MLOPS_DRAIN_SECONDS is 'nan'; it must be a number of s"),
        ({"MLOPS_QUEUE_SECONDS": "-1"}, "MLOPS_QUEUE_SECONDS is '-1'; it must be a number of sec"),
        ({"MLOPS_QUEUE_SECONDS": "soon"}, "MLOPS_QUEUE_SECONDS is 'soon'; it must be a number"),
        (
            {"MLOPS_PREDICTION_LOG": "gs://b"},
            "MLOPS_PREDICTION_LOG: 'gs://b' is not a location: use s3://",
        ),
    ],
)
def test_a_bad_variable_is_named(changes, message):
    with pytest.raises(SettingsError) as caught:
        ModelServerSettings.from_env({**GOOD, **changes})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("value", "seconds"), [("", 10.0), ("2.5", 2.5), ("3600", 3600.0)])
def test_the_time_limit_of_the_queue(value, seconds):
    env = {**GOOD, "MLOPS_QUEUE_SECONDS": value}
    assert ModelServerSettings.from_env(env).queue_seconds == seconds


def test_a_model_elsewhere_needs_no_tracking_server():
    env = {**GOOD, "MLFLOW_TRACKING_URI": "", "MLOPS_MODEL_URI": "/models/iris"}
    assert ModelServerSettings.from_env(env).model_uri == "/models/iris"


def test_the_process_says_one_line_and_exits_2():
    done = subprocess.run(
        [sys.executable, "-m", "pulumi_mlops.runtime.model_server"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "model server: MLOPS_MODEL_NAME is not set\n"
