"""`mlops:index:GeneratedSecret`: made once, kept in the state alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.plugin.generated_secret import (
    GeneratedSecretHandler,
    GeneratedSecretInputs,
    generate,
)

from .provider_fixtures import make_context

HANDLER = GeneratedSecretHandler()


@given(st.integers(8, 256))
def test_it_is_as_long_as_asked_and_needs_no_quotes(length: int) -> None:
    made = generate(length)
    assert len(made) == length
    assert made.isascii()
    assert made.isalnum()


def test_each_is_another_and_nobody_is_told(tmp_path: Path) -> None:
    ctx = make_context(tmp_path, HANDLER.token)
    made = [HANDLER.create(ctx, GeneratedSecretInputs(length=20)) for _ in range(2)]
    assert {name for name, _ in made} == {"thing"}
    values = {outputs["value"] for _, outputs in made}
    assert {len(value) for value in values} == {20}
    assert len(values) == 2
    assert ctx.log.lines == []  # type: ignore[attr-defined]
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("length", [7, 257, "long", 8.5])
def test_a_length_that_cannot_be(length: object) -> None:
    with pytest.raises(ValidationError):
        GeneratedSecretInputs.model_validate({"length": length})


def test_it_stays_as_it_is_and_cannot_be_imported(tmp_path: Path) -> None:
    ctx = make_context(tmp_path, HANDLER.token)
    assert HANDLER.read(ctx, "thing", {"value": "v"}) == {}
    HANDLER.delete(ctx, "thing", {"value": "v"})
    with pytest.raises(ResourceError, match="cannot be imported: it is stored only in the state"):
        HANDLER.read(ctx, "thing", {})
