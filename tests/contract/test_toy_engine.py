"""The contract of a target in a distribution of its own, with the real engine."""

from __future__ import annotations

from typing import ClassVar

import pytest
from contract_engine import EngineContract

pytestmark = pytest.mark.engine


@pytest.mark.usefixtures("toy_environment")
class TestToy(EngineContract):
    target = "toy"
    config: ClassVar = {"mlops:toy": {"greeting": "hi"}}
    has_routes = False
