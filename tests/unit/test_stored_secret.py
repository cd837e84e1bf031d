"""`mlops:kubernetes:StoredSecret`: a Secret in the state alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.plugin.values import UNKNOWN
from pulumi_mlops.targets.kubernetes.resources.stored_secret import (
    StoredSecretHandler,
    StoredSecretInputs,
)

from .provider_fixtures import make_context

HANDLER = StoredSecretHandler()
INPUTS: dict[str, Any] = {"namespace": "team", "name": "server-secrets", "stringData": {"A": "x"}}


def made(**more: Any) -> StoredSecretInputs:
    return StoredSecretInputs.model_validate({**INPUTS, **more})


def test_it_is_made_changed_and_gone_in_the_state_alone(tmp_path: Path) -> None:
    ctx = make_context(tmp_path, HANDLER.token)
    assert HANDLER.create(ctx, made()) == ("team/server-secrets", {})
    assert HANDLER.read(ctx, "team/server-secrets", INPUTS) == {}
    assert HANDLER.update(ctx, "team/server-secrets", INPUTS, made(stringData={"A": "y"})) == {}
    HANDLER.delete(ctx, "team/server-secrets", INPUTS)
    assert not list(tmp_path.rglob("*"))
    assert ctx.log.lines == []  # type: ignore[attr-defined]


def test_content_may_be_unknown_in_a_preview(tmp_path: Path) -> None:
    for content in (UNKNOWN, {"A": UNKNOWN, "B": "x"}):
        assert HANDLER.preview(make_context(tmp_path, HANDLER.token), made(stringData=content),
                               None) == {}  # fmt: skip


@pytest.mark.parametrize("wrong", [{"name": 1}, {"stringData": "x"}, {"stringData": {"A": 1}}])
def test_what_is_no_secret_is_refused_without_telling_it(wrong: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        made(**wrong)
    assert "input_value" not in str(refused.value)


def test_it_cannot_be_imported(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot be imported: it is stored only in the state"):
        HANDLER.read(make_context(tmp_path, HANDLER.token), "team/server-secrets", {})
