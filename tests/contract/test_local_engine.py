"""The contract of the local target, with the real engine."""

from __future__ import annotations

import pytest
from contract_engine import EngineContract

pytestmark = pytest.mark.engine


class TestLocal(EngineContract):
    target = "local"
