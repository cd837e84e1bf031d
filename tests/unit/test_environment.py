"""The checks of `mlops:local:Environment`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulumi_mlops.targets.local.resources.environment import EnvironmentHandler

from .provider_fixtures import make_context, problems


@pytest.mark.parametrize("requirement", ["mlflow", "mlflow==3.17.2", "mlflow[auth]>=3"])
def test_mlflow_in_a_path_with_a_percent_sign_is_refused(requirement: str, tmp_path: Path) -> None:
    """Its configuration of alembic takes the path of its package for a format."""
    for name, expected in (("plain", []), ("50% sure", ["requirements"])):
        ctx = make_context(tmp_path / name, EnvironmentHandler.token)
        found = problems(EnvironmentHandler(), ctx, requirements=["numpy", requirement])
        assert [key for key, _ in found] == expected
        assert all("mlops:dataDir" in text for _, text in found)
        assert problems(EnvironmentHandler(), ctx, requirements=["mlflow-export==1"]) == []
