"""Comparisons of two projects that register the same resources, and growth with their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from figures import Figure, progress, ratio_of_medians
from infrastructure_project import Cost, Project

NO_OP_LIMIT = 1.10
CREATE_LIMIT = 1.15


def no_changes(title: str, ours: Project, reference: Project, *, pairs: int) -> Iterator[Figure]:
    """Commands that find nothing to do, ours over the hand-written program's, pair by pair."""
    for name, command in (("preview", Project.preview), ("up", Project.up)):
        costs = []
        for number in range(pairs):
            # Each goes first as often as the other.
            first, second = (ours, reference) if number % 2 == 0 else (reference, ours)
            measured = {first: command(first), second: command(second)}
            costs.append((measured[ours], measured[reference]))
            progress(f"no-op {name} {number + 1} of {pairs}: {described(costs[-1])}")
        yield compare(f"{title}: no-op {name}", costs, NO_OP_LIMIT)


def compare(name: str, costs: Sequence[tuple[Cost, Cost]], limit: float | None) -> Figure:
    """CPU seconds of ours over those of the hand-written program."""
    ours, reference = ([each[side].cpu for each in costs] for side in (0, 1))
    return ratio_of_medians(f"{name} / hand-written", ours, reference, limit)


def growth_figure(name: str, cpu: Mapping[int, float], limit: float | None) -> Figure:
    """What an endpoint costs among many over what it costs among few.

    `cpu` has CPU seconds by the number of endpoints: of none, of few and of many.
    """
    none, few, many = sorted(cpu)
    each = [(cpu[count] - cpu[none]) / count for count in (few, many)]
    progress(
        f"{name}: {each[0] * 1000:.0f} ms an endpoint of {few}, {each[1] * 1000:.0f} of {many}"
    )
    title = f"{name}: endpoint {many} / {few}"
    return Figure(title, round(each[1] / each[0], 4), limit, samples=[round(c, 4) for c in each])


def least(costs: Iterable[Cost]) -> float:
    """The least CPU time: a disturbance only ever adds to it."""
    return min(cost.cpu for cost in costs)


def described(costs: tuple[Cost, Cost]) -> str:
    """One pair, for the progress output."""
    ours, reference = costs
    return (
        f"CPU {ours.cpu:.1f} / {reference.cpu:.1f} s = {ours.cpu / reference.cpu:.2f}, "
        f"wall {ours.wall:.1f} / {reference.wall:.1f} s"
    )
