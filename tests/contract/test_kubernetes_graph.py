"""The contract of the Kubernetes target, on Pulumi's mocks."""

from __future__ import annotations

import json
from typing import ClassVar

from contract import TargetContract

from pulumi_mlops.targets.port import Capability

REGISTRY = "registry.example.com/team"


class TestKubernetes(TargetContract):
    target = "kubernetes"
    config: ClassVar = {"mlops:kubernetes": json.dumps({"registry": REGISTRY})}


class TestRendered(TargetContract):
    """With `render_to` no cluster is read, so that there are no existing Secrets."""

    target = "kubernetes"
    config: ClassVar = {
        "mlops:kubernetes": json.dumps({"registry": REGISTRY, "render_to": "manifests"})
    }
    lacks = frozenset({Capability.EXISTING_SECRETS})
