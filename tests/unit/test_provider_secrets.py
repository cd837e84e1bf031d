"""What the plugin tells the engine about its secrets: which values, and when there is a new one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pulumi.provider.experimental import provider as api

from pulumi_mlops.plugin.dispatch import MlopsProvider
from pulumi_mlops.plugin.generated_secret import GeneratedSecretHandler
from pulumi_mlops.plugin.handlers import SharedResources
from pulumi_mlops.plugin.values import to_property
from pulumi_mlops.targets.kubernetes.resources import KubernetesResources
from pulumi_mlops.targets.kubernetes.resources.existing_secret import ExistingSecretHandler
from pulumi_mlops.targets.kubernetes.resources.stored_secret import StoredSecretHandler
from pulumi_mlops.targets.local.resources import LocalResources
from pulumi_mlops.targets.local.resources.secret import SecretHandler

Properties = dict[str, Any]
EXISTING = {"namespace": "team", "name": "db", "key": "url"}
STORED = {"namespace": "team", "name": "server", "stringData": {"A": "x"}}


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlopsProvider:
    monkeypatch.chdir(tmp_path)
    sets = [SharedResources(), KubernetesResources(), LocalResources()]
    return MlopsProvider(sets, "0.0.1", lambda *args, **kwargs: None)


def urn(token: str) -> str:
    return f"urn:pulumi:dev::project::{token}::thing"


def properties(plain: Properties) -> Properties:
    return {key: to_property(value) for key, value in plain.items()}


@pytest.mark.parametrize(
    ("handler", "inputs"),
    [(GeneratedSecretHandler, {}), (SecretHandler, {}), (ExistingSecretHandler, EXISTING)],
)
def test_the_engine_gets_the_value_of_a_secret_marked_as_secret(
    provider: MlopsProvider, handler: Any, inputs: Properties, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "create", lambda *_: ("thing", {"value": "hush"}))
    request = api.CreateRequest(urn(handler.token), properties(inputs), 0.0, False)
    value = asyncio.run(provider.create(request)).properties["value"]
    assert (value.value, value.is_secret) == ("hush", True)


@pytest.mark.parametrize(
    ("handler", "inputs", "changed", "replaced"),
    [
        (GeneratedSecretHandler, {"length": 32}, {"length": 40}, True),
        (StoredSecretHandler, STORED, {"name": "other"}, True),
        (StoredSecretHandler, STORED, {"namespace": "other"}, True),
        (StoredSecretHandler, STORED, {"type": "kubernetes.io/tls"}, True),
        (StoredSecretHandler, STORED, {"stringData": {"A": "y"}}, False),
    ],
)
def test_a_change_replaces_a_secret_only_if_its_identity_or_type_changes(
    provider: MlopsProvider, handler: Any, inputs: Properties, changed: Properties, replaced: bool
) -> None:
    request = api.DiffRequest(
        urn(handler.token), "thing", properties(inputs), properties({**inputs, **changed}), []
    )
    diff = asyncio.run(provider.diff(request))
    assert diff.changes
    assert bool(diff.replaces) is replaced
