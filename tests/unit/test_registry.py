"""The registry of targets: a target that is broken does not disturb the others."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from pulumi_mlops.targets import registry
from pulumi_mlops.targets.capabilities import Capability


@pytest.mark.parametrize("value", ["no_such_module:Package", "math:pi", "json:loads"])
def test_a_broken_target_supports_nothing(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """As after an incomplete installation of another distribution."""
    intact = registry.supporting(Capability.ROUTES)
    assert intact
    broken = EntryPoint("broken", value, registry.GROUP)
    points = {**registry._entry_points(), "broken": broken}
    monkeypatch.setattr(registry, "_entry_points", lambda: points)
    assert "broken" in registry.names()
    assert registry.supporting(Capability.ROUTES) == intact
