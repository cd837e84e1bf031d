"""The requirements and the Python version that MLflow stored with a model."""

from __future__ import annotations

import re

import pytest

from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.plugin.model_environment import read

REQUIREMENTS = (
    "mlflow==2.12.2\n# why\n\nnumpy==1.26.4  # pinned\n--extra-index-url https://x.example\n"
)


@pytest.mark.parametrize(
    ("python_env", "python"),
    [
        ("python: 3.10.13\nbuild_dependencies:\n- pip\n", "3.10"),
        ("python: 3.10\n", "3.10"),
        ("python: '3.12.1'\n", "3.12"),
        ("build_dependencies: []\n", ""),
        ("python: [", ""),
        ("- 1", ""),
        (None, ""),
    ],
)
def test_the_environment_of_a_model(python_env: str | None, python: str) -> None:
    files = {"requirements.txt": REQUIREMENTS, "python_env.yaml": python_env}
    assert read("m version 1", files.get) == (
        ["mlflow==2.12.2", "numpy==1.26.4", "--extra-index-url https://x.example"],
        python,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "m version 1 has no readable requirements.txt: set `requirements`"),
        ("numpy==1\n", "does not list mlflow"),
        ("mlflow\n-r base.txt\n", "refers to a file, '-r base.txt'"),
        ("mlflow\n-c limits.txt\n", "refers to a file, '-c limits.txt'"),
        ("mlflow\nwheels/lib-1-py3-none-any.whl\n", "refers to a file, 'wheels/lib-1-py3"),
        ("mlflow\nlib @ file:///home/me/lib\n", "refers to a file, 'lib @ file:///home/me/lib'"),
        ("mlflow\n-e ./lib\n", "refers to a file, '-e ./lib'"),
    ],
)
def test_requirements_that_are_not_enough_are_refused(text: str | None, message: str) -> None:
    with pytest.raises(ResourceError, match=re.escape(message)):
        read("m version 1", {"requirements.txt": text}.get)
