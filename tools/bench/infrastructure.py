"""What the components cost on top of Pulumi, how that grows, and a platform from nothing.

The first two run a plugin that is stubbed below the create call (infrastructure_plugin.py), so that
neither servers nor packages have a part in them. Their limits are on CPU seconds of the engine, the
language host, the program and the plugin together. Wall time is shown beside it: on a machine with
two cores and other work it doubles and triples from one command to the next while CPU time stays
within a fifth, and the four take turns rather than overlap, so that on an idle machine the two
ratios agree.

MLOPS_BENCH=quick is a short run that shows that everything works; its figures say little.
MLOPS_BENCH_ENDPOINTS=10,50 sets how many endpoints few and many are.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
from common import Result, progress
from infrastructure_project import Cost, Project, config_of, executable_folder, stubbed_plugins
from infrastructure_written import PROGRAM, module_of

_QUICK = os.environ.get("MLOPS_BENCH") == "quick"
_PAIRS = 1 if _QUICK else 21
# How many endpoints few and many are.
_FEW, _MANY = (
    int(count)
    for count in os.environ.get("MLOPS_BENCH_ENDPOINTS", "1,2" if _QUICK else "10,200").split(",")
)


def at_most(
    name: str, figure: float, limit: float | None, unit: str, samples: list[float]
) -> Result:
    """A figure that is the better the smaller it is."""
    return Result(name, figure, limit, unit, samples, at_most=True)


def measure() -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as name:
        folder = Path(name)
        plugin = stubbed_plugins(folder / "plugins")
        results = [*against_hand_written(folder, plugin), *growth(folder, plugin)]
        return results if _QUICK else [*results, *for_real(folder / "real")]


def against_hand_written(folder: Path, plugin: Path, endpoints: int | None = None) -> list[Result]:
    """Commands that find nothing to do, ours over the hand-written program's, pair by pair."""
    ours, theirs = pair(folder, plugin, endpoints)
    results: list[Result] = []
    for name, command in (("preview", Project.preview), ("up", Project.up)):
        costs = []
        for number in range(_PAIRS):
            # Each goes first as often as the other.
            first, second = (ours, theirs) if number % 2 == 0 else (theirs, ours)
            found = {first: command(first), second: command(second)}
            costs.append((found[ours], found[theirs]))
            progress(f"{name} {number + 1} of {_PAIRS}: {told(found[ours], found[theirs])}")
        title = f"no-op {name} / hand-written"
        results += [
            ratio_of(title, costs, lambda cost: cost.cpu, 1.10),
            ratio_of(f"{title}, wall time", costs, lambda cost: cost.wall, None),
        ]
    return results


def pair(folder: Path, plugin: Path, endpoints: int | None = None) -> tuple[Project, Project]:
    """The platform of stacks/, and the hand-written program of the same resources, both up."""
    progress("the platform and the same resources by hand …")
    ours = Project(folder / "components", config_of("dev", endpoints), plugin)
    ours.up()
    theirs = hand_written(folder / "hand-written", ours, endpoints, plugin)
    theirs.up()
    return ours, theirs


def hand_written(folder: Path, like: Project, endpoints: int | None, plugin: Path) -> Project:
    """A program, not up yet, that registers the resources of another by hand."""
    project = Project(folder, config_of("dev", endpoints), plugin)
    project.write("resources.py", module_of(like.state()))
    project.write("__main__.py", PROGRAM)
    return project


def growth(folder: Path, plugin: Path) -> list[Result]:
    """What an endpoint costs among many over what it costs among few.

    Commands that find nothing to do have the limit. Creating has none: Pulumi's engine writes the
    whole state twice for each resource, so that the cost of each grows with their number in any
    program, and the growth of the hand-written one is told beside ours.
    """
    creates: dict[int, list[Cost]] = {}
    theirs: dict[int, list[Cost]] = {}
    previews: dict[int, list[Cost]] = {}
    ups: dict[int, list[Cost]] = {}
    for count in (0, _FEW, _MANY):
        # What is subtracted from one another is measured more often.
        rounds = 1 if _QUICK else 3 if count == _MANY else 16
        project = Project(folder / f"endpoints-{count}", config_of("dev", count), plugin)
        creates[count] = [project.up()]
        previews[count] = [project.preview() for _ in range(rounds)]
        ups[count] = [project.up() for _ in range(rounds)]
        written = hand_written(folder / f"hand-written-{count}", project, count, plugin)
        theirs[count] = [written.up()]
        for _ in range(0 if _QUICK or count == _MANY else 2):
            for each, found in ((project, creates), (written, theirs)):
                each.destroy()
                found[count].append(each.up())
        progress(
            f"{count} endpoints: created with {least(creates[count]):.1f} s of CPU, by hand"
            f" {least(theirs[count]):.1f}; preview {least(previews[count]):.1f},"
            f" up {least(ups[count]):.1f}"
        )
    return [
        # Together: 10 endpoints add half a second to each, of which the machine's noise is a fifth.
        _grown("no-op preview and up", [previews, ups], 1.2),
        _grown("create", [creates], None),
        _grown("create, hand-written", [theirs], None),
    ]


def least(costs: list[Cost]) -> float:
    """The least CPU time: what disturbs a run only ever adds to it."""
    return min(cost.cpu for cost in costs)


def _grown(name: str, commands: list[dict[int, list[Cost]]], limit: float | None) -> Result:
    least = {count: sum(least(costs[count]) for costs in commands) for count in (0, _FEW, _MANY)}
    few, many = ((least[count] - least[0]) / count for count in (_FEW, _MANY))
    progress(f"{name}: {few * 1000:.0f} ms an endpoint of {_FEW}, {many * 1000:.0f} of {_MANY}")
    title = f"{name}: endpoint {_MANY} / {_FEW}"
    return at_most(title, round(many / few, 4), limit, "ratio", [round(few, 4), round(many, 4)])


def for_real(folder: Path) -> list[Result]:
    """From an empty state to the first answered prediction with real servers, and their memory.

    Packages come from uv's cache once it has them: a first run on a machine downloads them.
    """
    progress("a platform with real servers …")
    started = time.perf_counter()
    project = Project(folder, config_of("dev"), executable_folder())
    try:
        project.pulumi("up", "--yes")
        predict(str(project.outputs()["try_it"]))
        seconds = time.perf_counter() - started
        memory = sum(_memory(_processes_of(folder))) / 2**20
        progress(f"first prediction after {seconds:.0f} s (aim 120), {memory:.0f} MiB (aim 2048)")
    finally:
        project.destroy()
    return [
        at_most("first prediction, from nothing", round(seconds, 1), None, "s", [seconds]),
        at_most("memory of all processes", round(memory), None, "MiB", [memory]),
    ]


def predict(curl: str) -> None:
    """Do what the platform's `try_it` says. Raises urllib.error.URLError when that fails."""
    arguments = shlex.split(curl)
    (url,) = (each for each in arguments if each.startswith("http"))
    body = arguments[arguments.index("-d") + 1].encode()
    request = urllib.request.Request(  # noqa: S310 - http, to this machine
        url, body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        if "predictions" not in json.load(answer):
            raise RuntimeError(f"{url} answered without predictions")


def _processes_of(folder: Path) -> Iterable[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if any(
                str(folder) in text for text in [*process.cmdline(), *process.environ().values()]
            ):
                yield process
        except psutil.Error:  # ended meanwhile, or another user's
            continue


def _memory(processes: Iterable[psutil.Process]) -> Iterable[int]:
    """Bytes of each process; a page that several share is divided among them."""
    for process in processes:
        try:
            yield process.memory_full_info().pss
        except psutil.Error:
            continue


def ratio_of(
    name: str, costs: list[tuple[Cost, Cost]], of: Callable[[Cost], float], limit: float | None
) -> Result:
    # Of the medians, and not the median of the ratios: what disturbs one command of a pair would
    # count twice.
    figure = statistics.median(of(ours) for ours, _ in costs) / statistics.median(
        of(theirs) for _, theirs in costs
    )
    samples = [round(of(ours) / of(theirs), 4) for ours, theirs in costs]
    return at_most(name, round(figure, 4), limit, "ratio", samples)


def told(ours: Cost, theirs: Cost) -> str:
    return (
        f"CPU {ours.cpu:.1f} / {theirs.cpu:.1f} s = {ours.cpu / theirs.cpu:.2f}, "
        f"wall {ours.wall:.1f} / {theirs.wall:.1f} s = {ours.wall / theirs.wall:.2f}"
    )
