"""`pulumi up --continue-on-error`: what does not depend on a failed resource is still provisioned.

The engine omits inputs that are outputs of a failed resource, checks the dependent resource without
them, and then skips it. A failed check would end the program, with all that is not registered yet.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pulumi.provider.experimental import provider as api
from pydantic import Field

from pulumi_mlops.plugin.dispatch import MlopsProvider
from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.plugin.handler import Context, Handler, Inputs, ResourceSet
from pulumi_mlops.plugin.values import OrUnknown, to_property

URN = "urn:pulumi:dev::p::mlops:test:Link::link"


class LinkInputs(Inputs):
    address: OrUnknown[str] = Field(description="An output of another resource.")
    weight: int = Field(100, ge=0, description="A plain value.")


class LinkHandler(Handler[LinkInputs]):
    token = "mlops:test:Link"
    description = "A link."
    inputs = LinkInputs

    def create(self, ctx: Context, new: LinkInputs) -> tuple[str, dict[str, Any]]:
        raise ResourceError("it failed")

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        return


class Links(ResourceSet):
    def handlers(self) -> list[Handler[Any]]:
        return [LinkHandler()]


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlopsProvider:
    monkeypatch.chdir(tmp_path)
    return MlopsProvider([Links()], "1", lambda *_, **__: None)


def check(provider: MlopsProvider, **inputs: Any) -> list[str]:
    properties = {key: to_property(value) for key, value in inputs.items()}
    answer = asyncio.run(provider.check(api.CheckRequest(URN, {}, properties, b"")))
    return [each.property for each in answer.failures or []]


def diff(provider: MlopsProvider, **inputs: Any) -> api.DiffResponse:
    old = {"address": to_property("a")}
    new = {key: to_property(value) for key, value in inputs.items()}
    return asyncio.run(provider.diff(api.DiffRequest(URN, "link", old, new, [])))


def fail(provider: MlopsProvider, *, preview: bool) -> None:
    request = api.CreateRequest(URN, {"address": to_property("a")}, 0.0, preview)
    if preview:
        asyncio.run(provider.create(request))
        return
    with pytest.raises(ResourceError, match="it failed"):
        asyncio.run(provider.create(request))


def test_a_missing_input_is_refused(provider: MlopsProvider) -> None:
    fail(provider, preview=True)
    assert check(provider) == ["address"]
    with pytest.raises(ValueError, match="address"):
        diff(provider)


def test_after_a_failure_it_is_an_output_of_what_failed(provider: MlopsProvider) -> None:
    fail(provider, preview=False)
    assert check(provider) == []
    assert diff(provider).changes
    assert check(provider, weight=-1) == ["address", "weight"], "wrong values are still refused"
    assert check(provider, address="a", weight=-1) == ["weight"]
