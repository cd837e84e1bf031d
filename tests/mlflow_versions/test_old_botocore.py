"""The programs of the model server with the oldest boto3 that its requirements allow."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from pulumi_mlops import runtime
from pulumi_mlops.runtime.s3.connection import connect
from pulumi_mlops.targets.local.host.uv import search_environment, uv_bin

pytestmark = [pytest.mark.mlflow_versions, pytest.mark.timeout(300)]
RUNTIME = Path(runtime.__path__[0])
PROGRAM = """
import sys
from pathlib import Path
import botocore
from pulumi_mlops.runtime.model_files import BucketCopy
from pulumi_mlops.runtime.prediction_log import store_for

store_for("s3://data").put("log", b"one record")
folder = Path(sys.argv[1])
BucketCopy.at("s3://data/copy").upload(folder / "fetched")
assert BucketCopy.at("s3://data/copy").download(folder / "downloaded")
print(botocore.__version__)
"""


@pytest.fixture
def store() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_the_log_and_the_copy_of_a_model_are_written(store: str, tmp_path: Path) -> None:
    listed = (RUNTIME / "requirements-model-server.txt").read_text()
    lowest = re.findall(r"^boto3>=([\d.]+)$", listed, re.MULTILINE)
    assert lowest == ["1.26"]
    client = connect(store, region="us-east-1", key="k", secret="s")
    client.create_bucket(Bucket="data")
    model = tmp_path / "fetched" / "model"
    model.mkdir(parents=True)
    (model / "MLmodel").write_text("a: 1\n")
    digest = hashlib.sha256(b"a: 1\n").hexdigest()
    (tmp_path / "fetched" / "manifest.json").write_text(
        f'{{"MLmodel": {{"size": 5, "sha256": "{digest}"}}}}'
    )
    (tmp_path / "code" / "pulumi_mlops").mkdir(parents=True)
    (tmp_path / "code" / "pulumi_mlops" / "runtime").symlink_to(RUNTIME)
    venv = tmp_path / "venv"
    env = {
        **search_environment(), "PYTHONPATH": str(tmp_path / "code"), "AWS_ENDPOINT_URL": store,
        "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    for command in (
        [uv_bin(), "venv", "--quiet", str(venv)],
        [uv_bin(), "pip", "install", "--quiet", "--python", str(venv), f"boto3=={lowest[0]}.0"],
        [str(venv / "bin" / "python"), "-c", PROGRAM, str(tmp_path)],
    ):
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1.29.")
    assert client.list_objects_v2(Bucket="data")["KeyCount"] == 3
