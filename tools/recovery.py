"""What a killed update or a full disk leaves behind: locks, helpers, files that were cut off."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil
import yaml

from checkout import StackError, own_backend, replace_text, say

_META = "version: 1\n"
"""The version of a file backend (`.pulumi/meta.yaml`)."""


def recover(project: Path, stack: str, env: Mapping[str, str], *, refuse: bool = True) -> None:
    """Make a file backend usable again after a killed update or a full disk.

    Removes what only blocks: locks of processes that have ended, and the selection of a stack that
    was cut off. Raises StackError for a state that was cut off and, with `refuse`, if an update is
    running.
    """
    url = urlsplit(env.get("PULUMI_BACKEND_URL", ""))
    if url.scheme != "file":
        return
    folder = Path(unquote(url.netloc + url.path)).expanduser() / ".pulumi"
    name = str(yaml.safe_load((project / "Pulumi.yaml").read_text())["name"])
    _remove_cut_selections(name, env)
    meta = folder / "meta.yaml"
    own = env["PULUMI_BACKEND_URL"] == own_backend(project)  # another may have another version
    if own and meta.is_file() and not meta.read_text().strip():
        replace_text(meta, _META)
    _refuse_cut_state(folder, name, stack)
    _release_dead_locks(folder, name, stack, env, refuse=refuse)


def _release_dead_locks(
    folder: Path, project: str, stack: str, env: Mapping[str, str], *, refuse: bool
) -> None:
    """Remove the locks of killed updates. Raises StackError if an update is still running."""
    locks = sorted((folder / "locks").glob(f"*/{project}/{stack}/*.json"))
    holders = {lock: _read(lock) for lock in locks}
    dead = [lock for lock, holder in holders.items() if not alive(holder)]
    for holder in (holder for holder in holders.values() if alive(holder)):
        if not refuse:
            continue
        owner = f"{holder.get('username')}@{holder.get('hostname')} (pid {holder.get('pid')})"
        raise StackError(
            f"STACK={stack} is being updated by {owner} since {holder.get('timestamp')}."
            f" Wait for it to end. If it is not running: pulumi cancel --yes -s {stack}"
        )
    if not dead:
        if refuse:
            end_orphans(env)
        return
    say(f"an update of {stack} was killed; its lock is removed")
    # Not by `pulumi cancel`: it fails for a stack without a state, and for an empty lock.
    for lock in dead:
        for file in (lock, lock.with_name(f"{lock.name}.attrs")):
            file.unlink(missing_ok=True)
    if len(dead) == len(locks):
        end_orphans(env)


def _read(file: Path) -> dict[str, Any]:
    """The JSON object in `file`; empty if it was cut off or is gone."""
    try:
        content = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def alive(holder: Mapping[str, Any]) -> bool:
    """Whether the process of a lock is running. True for a process of another host."""
    if not {"hostname", "pid", "timestamp"} <= set(holder):
        return False  # cut off: its process was killed, or the disk was full
    if holder["hostname"] != socket.gethostname():
        return True
    try:
        process = psutil.Process(int(holder["pid"]))
        # A process that started after the lock was written is another one with the same id.
        written = datetime.fromisoformat(str(holder["timestamp"])).timestamp()
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= written + 1
    except (psutil.NoSuchProcess, ValueError):
        return False


def end_orphans(env: Mapping[str, str]) -> None:
    """End language hosts and plugins of this backend whose engine was killed.

    They hold files open, and a plugin may still be working. Processes that plugins started, those
    of the platform, keep running.
    """
    orphans = []
    for process in psutil.process_iter():
        try:
            names = {Path(part).name for part in process.cmdline()[:3]}
            helper = any(
                name.startswith(("pulumi-language-", "pulumi-resource-")) for name in names
            )
            if (
                helper
                and process.environ().get("PULUMI_BACKEND_URL") == env["PULUMI_BACKEND_URL"]
                and not any(parent.name() == "pulumi" for parent in process.parents())
            ):
                orphans.append(process)
                process.terminate()
        except psutil.Error:
            continue  # ended in the meantime, or of another user
    for process in psutil.wait_procs(orphans, timeout=10)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _remove_cut_selections(project: str, env: Mapping[str, str]) -> None:
    """Remove files that were cut off and only hold which stack is selected."""
    home = Path(env.get("PULUMI_HOME") or Path(env.get("HOME", "~")).expanduser() / ".pulumi")
    for file in (home / "workspaces").glob(f"{project}-*-workspace.json"):
        if not _read(file):
            say(f"{file} was cut off and is removed: no stack is selected")
            file.unlink(missing_ok=True)


def _refuse_cut_state(folder: Path, project: str, stack: str) -> None:
    file = folder / "stacks" / project / f"{stack}.json"
    if not file.exists() or _read(file):
        return
    copies = [file.with_name(f"{file.name}.bak")]
    copies += sorted((folder / "backups" / project / stack).glob("*.json"), reverse=True)
    usable = next((copy for copy in copies if _read(copy)), None)
    fix = (
        f"Free disk space, then restore the last copy: cp '{usable}' '{file}', and run"
        f" `make up STACK={stack} ARGS=--refresh`"
        if usable
        else "There is no copy: restore the file from a backup of your own"
    )
    raise StackError(f"the state of {stack} was cut off, as by a full disk ({file}). {fix}")
