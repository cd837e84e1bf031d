"""What the components cost on top of Pulumi on one machine, how that grows, and a real platform.

Two parts run a plugin that is stubbed below the create call (infrastructure_plugin.py): neither
servers nor packages contribute to them. Their figures are CPU seconds of the engine, the language
host, the program and the plugin together. Wall time is no measure on a machine with two cores and
other work: it doubles from one command to the next while CPU time stays within a fifth.
"""

from __future__ import annotations

import json
import shlex
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
from figures import Figure, progress
from infrastructure_project import Project, config_of, executable_folder, stubbed_plugins
from infrastructure_ratios import CREATE_LIMIT, compare, growth_figure, least, no_changes
from infrastructure_written import PROGRAM, module_of


def unchanged(smoke: bool) -> Iterator[Figure]:
    """No-op commands of the platform of stacks/ over those of the hand-written program."""
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as name:
        folder = Path(name)
        ours, reference = pair(folder, stubbed_plugins(folder / "plugins"))
        yield from no_changes("local", ours, reference, pairs=1 if smoke else 10)


def growth(smoke: bool) -> Iterator[Figure]:
    """The cost of one endpoint among many over that of one among few, and creation of many."""
    few, many = (1, 2) if smoke else (50, 200)
    create: dict[int, float] = {}
    no_op: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as name:
        folder = Path(name)
        plugins = stubbed_plugins(folder / "plugins")
        for count in (0, few, many):
            ours = Project(folder / f"endpoints-{count}", config_of("dev", count), plugins)
            created = ours.create()
            create[count] = created.cpu
            # The smaller ones are subtracted from the larger ones, so that their noise matters.
            rounds = 1 if smoke else 2 if count == many else 4
            no_op[count] = least(ours.preview() for _ in range(rounds)) + least(
                ours.up() for _ in range(rounds)
            )
            progress(f"{count} endpoints: create {create[count]:.1f} s, no-op {no_op[count]:.1f} s")
        reference = hand_written(folder / "hand-written", ours, many, plugins)
        yield compare(f"local: create {many}", [(created, reference.create())], CREATE_LIMIT)
        if not smoke:  # `unchanged` runs the same steps
            yield from no_changes(f"local: {many} endpoints", ours, reference, pairs=2)
        yield growth_figure("local: no-op preview and up", no_op, 1.2)
        yield growth_figure("local: create", create, None)


def pair(folder: Path, plugins: Path, endpoints: int | None = None) -> tuple[Project, Project]:
    """The platform of stacks/, and the hand-written program of the same resources, both up."""
    progress("the platform and the same resources by hand …")
    ours = Project(folder / "components", config_of("dev", endpoints), plugins)
    ours.create()
    reference = hand_written(folder / "hand-written", ours, endpoints, plugins)
    reference.create()
    return ours, reference


def hand_written(folder: Path, like: Project, endpoints: int | None, plugins: Path) -> Project:
    """A program, not up yet, that registers the resources of another by hand."""
    project = Project(folder, config_of("dev", endpoints), plugins)
    project.write("resources.py", module_of(like.state()))
    project.write("__main__.py", PROGRAM)
    return project


def platform(smoke: bool) -> Iterator[Figure]:
    """From an empty state to the first answered prediction with real servers, and their memory.

    Packages come from uv's cache once it has them: a first run on a machine downloads them. A smoke
    run is no smaller.
    """
    progress("a platform with real servers …")
    with tempfile.TemporaryDirectory(prefix="mlops-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name) / "platform"
        started = time.perf_counter()
        project = Project(folder, config_of("dev"), executable_folder())
        try:
            project.pulumi("up", "--yes")
            predict(str(project.outputs()["try_it"]))
            yield Figure("first prediction, from nothing", time.perf_counter() - started, unit="s")
            yield from memory(folder)
        finally:
            project.destroy()


def memory(folder: Path) -> Iterator[Figure]:
    """The resident memory of all processes that belong to `folder`, and their proportional share.

    In the first, a page that several processes share counts for each of them; in the second, it is
    divided among all that have it, other platforms on this machine included.
    """
    found = sorted(_memory(_processes_of(folder)), reverse=True)
    for resident, share, command in found:
        progress(f"{resident:6.0f} MiB, share {share:6.0f}  {command}")
    sizes = [round(resident) for resident, _, _ in found]
    shares = [round(share) for _, share, _ in found]
    yield Figure("resident memory", sum(sizes), 800, unit="MiB", samples=sizes)
    yield Figure("proportional memory", sum(shares), unit="MiB", samples=shares)


def predict(curl: str) -> None:
    """Send the request of the stack's output `try_it`. Raises OSError when that fails."""
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
        except psutil.Error:  # has ended, or another user's
            continue


def _memory(processes: Iterable[psutil.Process]) -> Iterable[tuple[float, float, str]]:
    """Of each process: resident MiB, its proportional share, and the end of its command line."""
    for process in processes:
        try:
            command = " ".join(process.cmdline())
            found = process.memory_full_info()
            yield found.rss / 2**20, found.pss / 2**20, command[-100:]
        except psutil.Error:
            continue
