"""What callers may give (the TypedDict) is what is checked (the spec), input for input."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

import pulumi
import pytest

from pulumi_mlops import artifacts, monitoring, serving, tracking, training
from pulumi_mlops.spec import Spec

PAIRS: list[tuple[type, type[Spec]]] = [
    (artifacts.ArtifactStoreArgs, artifacts._ArtifactStoreSpec),
    (tracking.TrackingServerArgs, tracking._TrackingServerSpec),
    (training.TrainingRunnerArgs, training._TrainingRunnerSpec),
    (training.PipelineArgs, training._PipelineSpec),
    (serving.ServingEndpointArgs, serving._ServingEndpointSpec),
    (monitoring.MonitoringStackArgs, monitoring._MonitoringStackSpec),
]
PAIR = pytest.mark.parametrize(("args", "spec"), PAIRS, ids=[args.__name__ for args, _ in PAIRS])


def hints_of(args: type) -> dict[str, Any]:
    # pulumi.Input names Output by a string of its own module.
    names = {"Output": pulumi.Output, "T": typing.TypeVar("T")}
    return typing.get_type_hints(args, localns=names, include_extras=True)


def required(args: type) -> set[str]:
    """The keys without NotRequired; `__required_keys__` does not see it in deferred annotations."""
    if not args.__total__:  # type: ignore[attr-defined]
        return set()
    hints = hints_of(args)
    return {key for key, hint in hints.items() if typing.get_origin(hint) is not typing.NotRequired}


@PAIR
def test_keys_are_the_specs_fields(args: type, spec: type[Spec]) -> None:
    assert set(args.__annotations__) == set(spec.model_fields)


@PAIR
def test_what_has_no_default_is_required(args: type, spec: type[Spec]) -> None:
    assert required(args) == {
        name for name, field in spec.model_fields.items() if field.is_required()
    }


def plain(hint: Any) -> set[type]:
    """The plain types that a hint lets through, inside Input, Mapping and the like too."""
    if typing.get_origin(hint) is typing.Literal:
        return {str}
    if isinstance(hint, type) and not typing.get_origin(hint):
        return {hint} if hint in (str, int, float, bool) else set()
    return set().union(*(plain(part) for part in typing.get_args(hint)))


@PAIR
def test_types_agree(args: type, spec: type[Spec]) -> None:
    hints = hints_of(args)
    for name, field in spec.model_fields.items():
        checked = plain(field.annotation)
        # A nested spec is a mapping of plain values to callers.
        if checked:
            assert plain(hints[name]) == checked, name


def test_components_have_a_pair_each() -> None:
    import pulumi_mlops  # noqa: PLC0415

    public = {name for name in pulumi_mlops.__all__ if name.endswith("Args")}
    assert public == {args.__name__ for args, _ in PAIRS}


def test_keys_are_documented() -> None:
    """In the source, since a string below an annotation is not kept."""
    import ast  # noqa: PLC0415
    import inspect  # noqa: PLC0415

    for args, _ in PAIRS:
        body = ast.parse(inspect.getsource(args)).body[0].body  # type: ignore[attr-defined]
        for place, node in enumerate(body):
            if isinstance(node, ast.AnnAssign):
                following = body[place + 1] if place + 1 < len(body) else None
                assert isinstance(following, ast.Expr), f"{args.__name__}: {ast.unparse(node)}"


def test_mappings_of_callers_are_accepted() -> None:
    class Frozen(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return {"1": 100}[key]

        def __iter__(self) -> typing.Iterator[str]:
            return iter(["1"])

        def __len__(self) -> int:
            return 1

    spec = serving.ServingEndpointSettings.of(
        "e", {"model": "m", "traffic": Frozen(), "requirements": ("a", "b")}
    )
    assert spec.traffic == {"1": 100}
    assert spec.requirements == ["a", "b"]
