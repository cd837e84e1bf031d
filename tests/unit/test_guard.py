"""supervisord and its guard bring each other back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pulumi_mlops.stackdir import StackDir
from pulumi_mlops.targets.local.host import guard, health
from pulumi_mlops.targets.local.host.supervisor import Program, Supervisor

from .cli_fixtures import made_stack, server, started, until


@pytest.fixture
def root(tmp_path: Path) -> Iterator[StackDir]:
    with made_stack(tmp_path) as root:
        yield root


def processes(root: StackDir) -> list[psutil.Process]:
    """The guard, and everything else of the stack."""
    found = []
    for each in psutil.process_iter():
        try:
            if str(root.path) in " ".join(each.cmdline()):
                found.append(each)
        except psutil.Error:
            continue
    return found


def guard_of(root: StackDir) -> psutil.Process | None:
    pid = Supervisor(root).pid()
    try:
        for each in psutil.Process(pid).children() if pid is not None else []:
            # A guard that was killed is a zombie until supervisord notices.
            if each.status() != psutil.STATUS_ZOMBIE and guard.__file__ in each.cmdline():
                return each
    except psutil.Error:  # it ended in the meantime
        return None
    return None


def answers(program: Program) -> bool:
    return health.probe(health.HealthCheck(**(program.health or {}))) is None


def test_each_brings_the_other_back(root: StackDir) -> None:
    program = started(root, server(root, "web-0"))
    supervisor = Supervisor(root)
    first, watch = supervisor.pid(), guard_of(root)
    assert first is not None and watch is not None
    assert list(supervisor.infos()) == ["web-0"], "the guard is no program of the stack"
    assert watch.memory_info().rss < 20 * 2**20

    psutil.Process(first).kill()
    until(lambda: supervisor.pid() not in (None, first) and answers(program))
    until(lambda: guard_of(root) is not None)
    log = root.path / "supervisor" / "guard.log"
    assert "supervisord has ended and is started again" in log.read_text()

    second = guard_of(root)
    assert second is not None
    second.kill()
    until(lambda: guard_of(root) not in (None, second))
    assert answers(program)


def test_a_start_that_fails_is_tried_again(root: StackDir) -> None:
    program = started(root, server(root, "web-0"))
    supervisor = Supervisor(root)
    first = supervisor.pid()
    assert first is not None
    until(lambda: guard_of(root) is not None)
    configuration = root.path / "supervisor" / "supervisord.conf"
    configuration.unlink()
    configuration.mkdir()  # the start cannot write it
    psutil.Process(first).kill()
    log = root.path / "supervisor" / "guard.log"
    until(lambda: log.exists() and "error: " in log.read_text())
    assert supervisor.pid() is None

    configuration.rmdir()
    until(lambda: supervisor.pid() not in (None, first) and answers(program))
    until(lambda: guard_of(root) is not None)
    until(lambda: sum(guard.__file__ in each.cmdline() for each in processes(root)) == 1)


def test_a_start_on_a_full_disk_is_a_failed_start(tmp_path: Path) -> None:
    assert not guard._start("/bin/false", str(tmp_path), Path("/dev/full"))
    assert guard._start("/bin/true", str(tmp_path), Path("/dev/full"))
    assert not guard._start("/bin/true", str(tmp_path), tmp_path / "none" / "guard.log")


def test_an_orderly_end_is_final(root: StackDir) -> None:
    started(root, server(root, "web-0"))
    Supervisor(root).stop("web-0")
    until(lambda: not processes(root))
    assert not (root.path / "supervisor").exists()


def test_a_deletion_while_it_is_down_is_final(root: StackDir) -> None:
    started(root, server(root, "web-0"))
    pid = Supervisor(root).pid()
    assert pid is not None
    psutil.Process(pid).kill()
    until(lambda: Supervisor(root).pid() is None)
    Supervisor(root).stop("web-0")
    until(lambda: not processes(root))
