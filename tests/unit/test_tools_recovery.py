"""What a killed update or a full disk leaves in a file backend."""

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import checkout
import recovery

CUT = ["", "{", '{"pid": 12', "null", "5", "[]", "\0" * 40]


def holder(pid: int, written: datetime, hostname: str | None = None) -> dict[str, object]:
    # Go's RFC 3339 with nanoseconds
    stamp = written.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "789Z"
    host = hostname or socket.gethostname()
    return {"pid": pid, "username": "ann", "hostname": host, "timestamp": stamp}


def test_a_lock_counts_while_its_process_lives():
    now = datetime.now(UTC)
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()

    assert recovery.alive(holder(os.getpid(), now))
    assert not recovery.alive(holder(ended.pid, now))
    assert recovery.alive(holder(ended.pid, now, "elsewhere")), "it cannot be seen from here"
    assert not recovery.alive(holder(os.getpid(), now - timedelta(days=400))), "another process"
    assert not recovery.alive({}), "a half-written lock"


class Backend:
    """A project with a file backend of its own."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.folder = project / ".mlops" / "state" / ".pulumi"
        self.env = {
            "PULUMI_BACKEND_URL": checkout.own_backend(project),
            "PULUMI_HOME": str(project / "home"),
        }
        self.lock = self.folder / "locks" / "organization" / "platform" / "dev" / "3f6c.json"
        self.state = self.folder / "stacks" / "platform" / "dev.json"
        self.selection = project / "home" / "workspaces" / "platform-0123-workspace.json"
        for file in (self.lock, self.state, self.selection):
            file.parent.mkdir(parents=True)
        self.state.write_text('{"version": 3}')
        (project / "Pulumi.yaml").write_text("name: platform\n")

    def recover(self, *, refuse: bool = True) -> None:
        recovery.recover(self.project, "dev", self.env, refuse=refuse)


@pytest.fixture
def backend(tmp_path):
    return Backend(tmp_path / "my clone")


def test_the_lock_of_a_killed_update_is_removed(backend):
    backend.lock.write_text(json.dumps(holder(2**22 + 1, datetime.now(UTC))))
    backend.lock.with_name("3f6c.json.attrs").touch()
    backend.recover()
    assert list(backend.lock.parent.iterdir()) == []


def test_the_lock_of_a_living_update_stops_and_says_who(backend):
    backend.lock.write_text(json.dumps(holder(os.getpid(), datetime.now(UTC))))
    cut = backend.lock.with_name("0000.json")
    cut.touch()
    with pytest.raises(checkout.StackError, match=rf"dev .*ann@.*pid {os.getpid()}.*cancel"):
        backend.recover()
    backend.recover(refuse=False)
    assert backend.lock.exists()
    assert not cut.exists()


@pytest.mark.parametrize("content", CUT)
def test_a_lock_that_was_cut_off_is_removed(backend, content):
    """Of a full disk. Every command ended with `unexpected end of JSON input`."""
    backend.lock.write_text(content)
    backend.recover(refuse=False)
    assert not backend.lock.exists()


@pytest.mark.parametrize("content", CUT)
def test_a_selection_that_was_cut_off_is_removed(backend, content):
    backend.selection.write_text(content)
    other = backend.selection.with_name("shop-0123-workspace.json")
    other.write_text(content)
    backend.recover()
    assert not backend.selection.exists()
    assert other.exists(), "it is of another project"
    backend.selection.write_text('{"stack": "dev"}')
    backend.recover()
    assert backend.selection.exists()


@pytest.mark.parametrize("content", CUT)
def test_a_state_that_was_cut_off_is_named_with_its_last_copy(backend, content):
    backend.state.write_text(content)
    with pytest.raises(checkout.StackError, match="There is no copy"):
        backend.recover()
    backups = backend.folder / "backups" / "platform" / "dev"
    backups.mkdir(parents=True)
    for number, text in (("1", '{"version": 3}'), ("2", '{"version": 3}'), ("3", "")):
        (backups / f"dev.{number}.json").write_text(text)
    with pytest.raises(checkout.StackError) as refusal:
        backend.recover()
    text = str(refusal.value)
    assert f"cp '{backups / 'dev.2.json'}' '{backend.state}'" in text
    assert "make up STACK=dev ARGS=--refresh" in text
    assert backend.state.read_text() == content


def test_an_empty_version_of_the_backend_is_written_again(backend):
    meta = backend.folder / "meta.yaml"
    meta.touch()
    backend.recover()
    assert meta.read_text() == "version: 1\n"
    meta.write_text("version: 2\n")
    backend.recover()
    assert meta.read_text() == "version: 2\n"


@pytest.mark.parametrize("place", [("platform", "prod"), ("other", "dev")])
def test_locks_of_other_stacks_are_left_alone(backend, place):
    lock = backend.folder.joinpath("locks", "organization", *place, "1.json")
    lock.parent.mkdir(parents=True)
    lock.touch()
    backend.recover()
    recovery.recover(backend.project, "dev", {**backend.env, "PULUMI_BACKEND_URL": "s3://state"})
    assert lock.exists()


def test_an_empty_passphrase_is_made_again_before_a_state_needs_it(backend):
    project, passphrase = backend.project, backend.project / ".mlops" / "passphrase"
    shutil.rmtree(backend.folder)
    passphrase.touch()
    env = backend.env | {"PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase)}
    checkout.prepare(project, env)
    assert len(passphrase.read_text()) >= 40
    backend.state.parent.mkdir(parents=True)
    backend.state.write_text("{}")
    passphrase.write_text("")
    with pytest.raises(checkout.StackError, match="is missing, and the state of dev is encrypted"):
        checkout.prepare(project, env)


def test_a_full_disk_leaves_a_stack_file_as_it_was(tmp_path, monkeypatch):
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text("config: {}\n")
    file.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    checkout.replace_text(link, "config: {a: 1}\n")
    assert link.is_symlink() and file.read_text() == "config: {a: 1}\n"
    assert file.stat().st_mode & 0o777 == 0o640
    monkeypatch.setattr(checkout.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkout.replace_text(file, "config: {}\n")
    assert file.read_text() == "config: {a: 1}\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["Pulumi.dev.yaml", "link.yaml"]


@contextmanager
def named_process(folder: Path, name: str, backend_url: str):
    """A process that looks like a helper of the engine."""
    script = folder / name
    script.write_text("import time\nprint('on', flush=True)\ntime.sleep(600)\n")
    env = {**os.environ, "PULUMI_BACKEND_URL": backend_url}
    process = subprocess.Popen([sys.executable, str(script)], env=env, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"on\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_only_orphaned_helpers_of_this_backend_are_ended(tmp_path):
    mine, other = f"file://{tmp_path}/mine", f"file://{tmp_path}/other"
    with (
        named_process(tmp_path, "pulumi-resource-mlops", mine) as orphan,
        named_process(tmp_path, "pulumi-language-python", other) as foreign,
        named_process(tmp_path, "tracking-server", mine) as service,
    ):
        recovery.end_orphans({"PULUMI_BACKEND_URL": mine})

        orphan.wait(timeout=60)
        assert (foreign.poll(), service.poll()) == (None, None)
