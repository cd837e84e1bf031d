"""What the components cost on top of pulumi_kubernetes, and how that grows.

As infrastructure.py measures the local one: the limits are on CPU seconds, no cluster, registry or
server has a part in it, and the hand-written program registers the same resources with literal
inputs. A first preview, of a stack that is not up, is measured at many endpoints, since Pulumi's
engine writes the whole state for each resource that an update makes.

MLOPS_BENCH=quick is a short run; MLOPS_BENCH_CLUSTER_ENDPOINTS=50,200 sets what few and many are.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from common import Result, progress
from infrastructure import at_most, least, ratio_of, told
from infrastructure_project import Cost, Project, config_of, stubbed_plugins
from infrastructure_written import PROGRAM, module_of, module_of_many

_QUICK = os.environ.get("MLOPS_BENCH") == "quick"
_FEW, _MANY = (
    int(count)
    for count in os.environ.get(
        "MLOPS_BENCH_CLUSTER_ENDPOINTS", "3,6" if _QUICK else "50,200"
    ).split(",")
)
# An update is needed first, which takes long with many.
_UP = 2 if _QUICK else 20
_PAIRS = 1 if _QUICK else 5


def measure() -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as name:
        folder = Path(name)
        plugins = stubbed_plugins(folder / "plugins")
        return [*nothing_to_do(folder, plugins), *all_new(folder, plugins)]


def pair(folder: Path, plugins: Path, endpoints: int) -> tuple[Project, Project]:
    """The platform of stacks/, and the hand-written program of the same resources, both up."""
    progress(f"{endpoints} endpoints on a cluster, and the same resources by hand …")
    ours = Project(folder / "components", config_of("cluster", endpoints), plugins)
    ours.up()
    theirs = Project(folder / "hand-written", config_of("cluster", endpoints), plugins)
    theirs.write("resources.py", module_of(ours.state()))
    theirs.write("__main__.py", PROGRAM)
    theirs.up()
    return ours, theirs


def nothing_to_do(folder: Path, plugins: Path) -> list[Result]:
    """Previews that find nothing to do."""
    ours, theirs = pair(folder / "up", plugins, _UP)
    costs = []
    for number in range(_PAIRS):
        first, second = (ours, theirs) if number % 2 == 0 else (theirs, ours)
        found = {first: first.preview(), second: second.preview()}
        costs.append((found[ours], found[theirs]))
        progress(f"preview {number + 1} of {_PAIRS}: {told(found[ours], found[theirs])}")
    title = f"cluster: no-op preview of {_UP} / hand-written"
    return [
        ratio_of(title, costs, lambda cost: cost.cpu, 1.10),
        ratio_of(f"{title}, wall time", costs, lambda cost: cost.wall, None),
    ]


def all_new(folder: Path, plugins: Path) -> list[Result]:
    """Previews of platforms that are not there, with few and with many endpoints."""
    like = Project(folder / "like", config_of("cluster", 2), plugins)
    like.up()
    state = like.state()
    costs: dict[int, list[tuple[Cost, Cost]]] = {}
    ground = 0.0
    for count in (0, _FEW, _MANY):
        ours = Project(folder / f"ours-{count}", config_of("cluster", count), plugins)
        if count == 0:
            ground = least([ours.first_preview() for _ in range(1 if _QUICK else 3)])
            continue
        theirs = Project(folder / f"theirs-{count}", config_of("cluster", count), plugins)
        names = [f"endpoint-{number:03}" for number in range(2, count)]
        theirs.write("resources.py", module_of_many(state, "endpoint-001", names))
        theirs.write("__main__.py", PROGRAM)
        costs[count] = []
        for _ in range(1 if _QUICK else 3):
            costs[count].append((ours.first_preview(), theirs.first_preview()))
            progress(f"{count} endpoints, all new: {told(*costs[count][-1])}")
        if planned(ours) != planned(theirs):
            raise RuntimeError(f"not the same: {planned(ours)} and {planned(theirs)} resources")
    title = f"cluster: first preview of {_MANY} / hand-written"
    cpu = {count: least([ours for ours, _ in pairs]) for count, pairs in costs.items()}
    few, many = ((cpu[count] - ground) / count for count in (_FEW, _MANY))
    progress(f"{few * 1000:.0f} ms an endpoint of {_FEW}, {many * 1000:.0f} of {_MANY}")
    return [
        ratio_of(title, costs[_MANY], lambda cost: cost.cpu, 1.10),
        ratio_of(f"{title}, wall time", costs[_MANY], lambda cost: cost.wall, None),
        at_most(
            f"cluster: first preview: endpoint {_MANY} / {_FEW}", round(many / few, 4), 1.2,
            "ratio", [round(few, 4), round(many, 4)],
        ),
    ]  # fmt: skip


def planned(project: Project) -> int:
    """How many resources the last preview would make."""
    found = re.search(r"\+ (\d+) to create", (project.folder / "pulumi.log").read_text())
    if found is None:
        raise RuntimeError("the preview does not say what it would make")
    return int(found[1])
