"""The contract of a target in a distribution of its own, on Pulumi's mocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from contract import TargetContract


@pytest.mark.usefixtures("toy_installed")
class TestToy(TargetContract):
    target = "toy"
    config: ClassVar = {"mlops:toy": '{"greeting": "hi"}'}

    def outputs(self, kind: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        match kind:
            case "mlops:toy:Environment":
                return {"path": f"/environments/{name}"}
            case "mlops:toy:Process":
                addresses = {port: ["127.0.0.1:21000"] for port in inputs["ports"]}
                return {"url": "http://127.0.0.1:21000", "addresses": addresses}
            case "mlops:toy:Run":
                return {"outputs": {"version": "1"}}
            case "mlops:toy:Volume":
                return {"path": f"/volumes/{name}"}
        return {}
