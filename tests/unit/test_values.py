"""Plain values to the engine's form and back; secrets and unknowns; what differs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.provider import PropertyDiffKind
from pydantic import BaseModel, ValidationError

from pulumi_mlops.plugin.values import (
    UNKNOWN,
    OrUnknown,
    differences,
    has_unknown,
    secrets_in,
    to_plain,
    to_property,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.just(UNKNOWN)
)
keys = st.text(max_size=3)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(values)
def test_there_and_back(value: Any) -> None:
    assert to_plain(to_property(value)) == value


@settings(deadline=None)
@given(st.integers(-(2**53), 2**53))
def test_the_engine_gets_floats_alone(number: int) -> None:
    inner = to_property({"a": [number]}).value["a"].value[0].value  # type: ignore[index, union-attr]
    assert type(inner) is float


def test_a_bool_stays_one() -> None:
    assert to_plain(to_property(True)) is True


def test_what_has_no_form_is_an_error() -> None:
    with pytest.raises(TypeError, match="cannot send a object to the engine"):
        to_property({"a": [object()]})


@settings(deadline=None)
@given(values)
def test_unknowns_are_found_at_any_depth(value: Any) -> None:
    assert has_unknown(value) == ("<unknown>" in repr(value).replace("'<unknown>'", ""))


def test_secrets_are_found_below_what_is_marked_and_nowhere_else() -> None:
    value = PropertyValue(
        {
            "open": to_property("open"),
            "leaf": to_property("leaf", secret=True),
            "map": to_property({"a": ["below", 1, UNKNOWN]}, secret=True),
        }
    )
    assert set(secrets_in(value)) == {"leaf", "below"}
    assert set(secrets_in(value, secret=True)) == {"open", "leaf", "below"}


@settings(deadline=None)
@given(values)
def test_a_value_does_not_differ_from_itself_unless_it_is_unknown(value: Any) -> None:
    if not has_unknown(value):
        assert list(differences(value, value, "x")) == []


@settings(deadline=None)
@given(st.dictionaries(keys, values, max_size=3), st.dictionaries(keys, values, max_size=3))
def test_all_that_differs_is_told(old: dict[str, Any], new: dict[str, Any]) -> None:
    found = list(differences(old, new))
    missing_is_none = {key: new.get(key) for key in {*old, *new}} == {
        key: old.get(key) for key in {*old, *new}
    }
    if not missing_is_none:
        assert found
    assert len({path for path, _ in found}) == len(found)


def test_paths_and_kinds() -> None:
    old = {"env": {"A": "1", "B": "2"}, "list": ["a", "b"], "gone": 1, "odd": {"a.b": 1}}
    new = {"env": {"A": "1", "B": "3", "C": "4"}, "list": ["a"], "odd": {"a.b": 2}, "path": UNKNOWN}
    assert dict(differences(old, new)) == {
        "env.B": PropertyDiffKind.UPDATE,
        "env.C": PropertyDiffKind.ADD,
        "list[1]": PropertyDiffKind.DELETE,
        "gone": PropertyDiffKind.DELETE,
        'odd["a.b"]': PropertyDiffKind.UPDATE,
        "path": PropertyDiffKind.ADD,
    }


def test_an_unknown_passes_validation_and_a_known_value_is_checked() -> None:
    class Model(BaseModel):
        count: OrUnknown[int]

    assert Model(count=UNKNOWN).count is UNKNOWN  # type: ignore[arg-type]
    assert Model(count=1).count == 1
    with pytest.raises(ValidationError):
        Model(count="one")  # type: ignore[arg-type]
