"""The contract of the local target, on Pulumi's mocks."""

from __future__ import annotations

from contract import TargetContract


class TestLocal(TargetContract):
    target = "local"
