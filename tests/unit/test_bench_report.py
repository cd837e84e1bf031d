"""The report of the benchmark: each figure is saved at once, and a failure costs no other part."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "tools" / "bench"


@pytest.fixture(scope="module")
def figures() -> Iterator[Any]:
    sys.path.insert(0, str(BENCH))
    yield importlib.import_module("figures")
    sys.path.remove(str(BENCH))


def saved(file: Path) -> Any:
    return json.loads(file.read_text())


@pytest.mark.parametrize(
    ("value", "at_most", "met"),
    [(1.1, True, True), (1.11, True, False), (1.1, False, True), (1.09, False, False)],
)
def test_a_limit_is_a_bound_of_its_side(
    figures: Any, tmp_path: Path, value: float, at_most: bool, met: bool
) -> None:
    def part(smoke: bool) -> Iterator[Any]:
        yield figures.Figure("one", value, 1.1, at_most=at_most)
        yield figures.Figure("free", 99.0)

    file = tmp_path / "bench.json"
    assert figures.Report(file, smoke=False).run({"a": part}) == (0 if met else 1)
    found = saved(file)["parts"]["a"]["figures"]
    assert found["one"]["met"] is met
    assert found["free"]["met"] is None


def test_a_figure_is_printed_and_saved_before_the_next_is_measured(
    figures: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "build" / "bench.json"

    def part(smoke: bool) -> Iterator[Any]:
        yield figures.Figure("first", 1.0, 1.1)
        assert "first" in capsys.readouterr().out
        assert saved(file)["parts"]["a"]["figures"]["first"]["value"] == 1.0
        assert not saved(file)["complete"]
        yield figures.Figure("second", 2.0)

    assert figures.Report(file, smoke=False).run({"a": part}) == 0
    assert set(saved(file)["parts"]["a"]["figures"]) == {"first", "second"}
    assert saved(file)["complete"]


def test_a_part_that_fails_is_named_and_the_others_run(
    figures: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(smoke: bool) -> Iterator[Any]:
        yield figures.Figure("before", 1.0)
        raise UnboundLocalError("least")

    def whole(smoke: bool) -> Iterator[Any]:
        yield figures.Figure("after", 2.0)

    file = tmp_path / "bench.json"
    assert figures.Report(file, smoke=False).run({"broken": broken, "whole": whole}) == 1
    parts = saved(file)["parts"]
    assert parts["broken"]["error"] == "UnboundLocalError: least"
    assert set(parts["broken"]["figures"]) == {"before"}
    assert parts["whole"]["error"] is None
    assert set(parts["whole"]["figures"]) == {"after"}
    assert "failed parts: broken" in capsys.readouterr().out


def test_a_smoke_run_judges_no_limit_but_fails_with_a_part(
    figures: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[bool] = []

    def slow(smoke: bool) -> Iterator[Any]:
        seen.append(smoke)
        yield figures.Figure("far off", 9.0, 1.1)

    def broken(smoke: bool) -> Iterator[Any]:
        raise RuntimeError("no server")
        yield

    file = tmp_path / "bench.json"
    assert figures.Report(file, smoke=True).run({"slow": slow}) == 0
    assert seen == [True]
    assert saved(file)["smoke"]
    assert saved(file)["parts"]["slow"]["figures"]["far off"]["met"] is None
    assert "not meaningful" in capsys.readouterr().out
    assert figures.Report(file, smoke=True).run({"broken": broken}) == 1


def test_an_endpoint_costs_what_is_left_without_the_cost_of_none(
    figures: Any,
) -> None:
    ratios = importlib.import_module("infrastructure_ratios")
    # 2 s for the platform, 10 ms for each of 50 and 15 ms for each of 200.
    figure = ratios.growth_figure("create", {0: 2.0, 50: 2.5, 200: 5.0}, 1.2)
    assert figure.value == pytest.approx(1.5)
    assert figure.samples == [0.01, 0.015]
    assert not figure.met
