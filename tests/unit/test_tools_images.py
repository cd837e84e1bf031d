"""What tests with containers bring along: nothing half-made is kept, nothing is installed."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "images"))
import base_image
import debian
import docker_engine
from debian import ClusterError

_APT = """\
#!/bin/sh
echo "apt-get $*" >> {asked}
case $1 in
update) touch {folder}/lists ;;
download) [ -e {folder}/lists ] || {{ echo 'E: Unable to locate package' >&2; exit 100; }}
    shift; for name in "$@"; do touch "${{name}}_1_all.deb"; done ;;
esac
"""
_DPKG = """\
#!/bin/sh
[ -e {folder}/broken ] && {{ echo 'dpkg-deb: error: not a Debian format archive' >&2; exit 2; }}
mkdir -p "$3/usr/bin" && touch "$3/usr/bin/$(basename "$2" _1_all.deb)"
"""
_DOCKER = """\
#!/bin/sh
echo "docker $*" >> {asked}
[ ! -e {folder}/no-"$1" ] || {{ echo "$1: refused" >&2; exit 1; }}
[ "$1" != images ] || cat {folder}/images 2>/dev/null || true
"""


class Machine:
    """A folder with programs that record what they were asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = folder / "asked"
        for name, text in (("apt-get", _APT), ("dpkg", _DPKG), ("docker", _DOCKER)):
            file = folder / "bin" / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text.format(asked=self.record, folder=folder))
            file.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        """The commands so far."""
        return self.record.read_text().splitlines() if self.record.exists() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return machine


def _kept(machine: Machine) -> list[str]:
    cache = machine.folder / "cache" / "pulumi-mlops" / "images"
    return sorted(entry.name for entry in cache.iterdir() if entry.name != ".images-lock")


def test_packages_are_unpacked_once(machine: Machine) -> None:
    folder = debian.unpacked("two", ("one", "other"))
    assert {file.name for file in (folder / "usr" / "bin").iterdir()} == {"one", "other"}
    assert not list(folder.glob("*.deb"))
    assert machine.asked == [
        "apt-get download one other", "apt-get update", "apt-get download one other",
    ]  # fmt: skip
    assert debian.unpacked("two", ("one", "other")) == folder
    assert len(machine.asked) == 3
    debian.unpacked("three", ("three",))
    assert machine.asked[3:] == ["apt-get download three"], "the lists are there now"
    assert _kept(machine) == ["three", "two"]


def test_packages_that_cannot_be_had_leave_nothing(machine: Machine) -> None:
    (machine.folder / "broken").touch()
    with pytest.raises(ClusterError, match="not a Debian format archive"):
        debian.unpacked("two", ("one",))
    assert _kept(machine) == []
    (machine.folder / "bin" / "apt-get").write_text("#!/bin/sh\necho no network >&2; exit 1\n")
    with pytest.raises(ClusterError, match="no network"):
        debian.unpacked("two", ("one",))
    assert _kept(machine) == []


def test_a_machine_without_apt(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(machine.folder / "nowhere"))
    with pytest.raises(ClusterError, match="apt-get: No such file"):
        debian.unpacked("two", ("one",))


def test_an_engine_that_answers_is_taken(machine: Machine) -> None:
    with docker_engine.found_or_started() as docker:
        docker("ps")
    assert machine.asked == ["docker info", "docker ps"]


def test_where_none_answers_root_is_needed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine.folder / "no-info").touch()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="needs root"), docker_engine.found_or_started():
        pass


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets; pytest's are long in a worker."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_an_engine_refuses_a_folder_that_exists_or_has_a_long_path(
    machine: Machine, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(ClusterError, match="exists"), docker_engine.engine(short_folder):
        pass
    deep = short_folder / ("x" * 100)
    with pytest.raises(ClusterError, match="too long a path"), docker_engine.engine(deep):
        pass
    assert short_folder.exists()


def _docker(machine: Machine) -> docker_engine.Docker:
    return docker_engine.Docker({"PATH": f"{machine.folder}/bin:/usr/bin:/bin"})


def test_the_base_image_is_pulled_where_it_can_be(machine: Machine) -> None:
    base_image.ensure(_docker(machine))
    assert machine.asked[-1] == "docker pull --quiet python:3.11-slim"
    (machine.folder / "images").write_text("0123456789ab\n")
    base_image.ensure(_docker(machine))
    assert machine.asked[-1].startswith("docker images"), "it is there: nothing is asked for"


def test_else_something_like_it_is_made_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine.folder / "no-pull").touch()
    made = []

    def bootstrap(debootstrap: Path, root: Path, log: Path) -> None:
        made.append(root)
        (root / "usr").mkdir(parents=True)

    monkeypatch.setattr(base_image, "_bootstrap", bootstrap)
    base_image.ensure(_docker(machine))
    base_image.ensure(_docker(machine))
    assert len(made) == 1
    assert machine.asked[-1].endswith("python-bookworm.tar python:3.11-slim")
    assert _kept(machine) == ["debootstrap", "python-bookworm.tar"]


def test_a_base_image_that_fails_leaves_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    program = debian.unpacked("debootstrap", ("debootstrap",)) / "usr" / "sbin" / "debootstrap"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'E: Failed getting release file'; exit 1\n")
    program.chmod(0o755)
    with pytest.raises(ClusterError, match="Failed getting release file"):
        base_image.archive()
    assert _kept(machine) == ["debootstrap"]
