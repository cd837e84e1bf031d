"""The supervisor of one stack: supervisord (supervisord.org) starts and restarts its programs.

supervisord also rotates their logs. `launch.py` adds that programs end when supervisord is killed,
and that none runs twice afterwards; `guard.py` that supervisord is started again.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import sys
import time
import xmlrpc.client
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults

from ....files import read_json, remove_tree, tail, write_private
from ....plugin.errors import ResourceError
from ....stackdir import StackDir
from . import guard, launch, supervisord

UP = frozenset({"STARTING", "RUNNING"})
_INHERITED = (
    "HOME", "LANG", "LC_ALL", "LOGNAME", "TZ", "USER",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip


def base_environment() -> dict[str, str]:
    """The variables that all programs get. They contain no secrets of the caller."""
    # Not the caller's PATH: programs must not depend on the shell that ran the update.
    inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **inherited}


@dataclass(frozen=True)
class Program:
    """A command that is kept running."""

    name: str
    command: list[str]
    env: dict[str, str]
    cwd: Path
    log: Path
    stop_seconds: float = 10.0
    stop_signal: str = "TERM"
    scratch: str | None = None
    """A folder that is emptied at every start, for sockets and temporary files."""
    health: dict[str, Any] | None = None
    """The fields of its `health.HealthCheck`, for later checks. A change causes no restart."""


class Supervisor:
    """Client of the stack's supervisord, which is started when a program needs it."""

    def __init__(self, root: StackDir) -> None:
        self._root = root

    @property
    def _home(self) -> Path:
        return self._root.path / "supervisor"

    @property
    def _socket(self) -> Path:
        return self._root.runtime / "supervisor.sock"

    def folder(self, name: str) -> Path:
        """The folder with the definition and private files of program `name`."""
        return self._root.path / "programs" / name

    def names(self) -> list[str]:
        """The names of all defined programs, running or not."""
        folder = self._root.path / "programs"
        if not folder.exists():
            return []
        return sorted(entry.name for entry in folder.iterdir() if (entry / "spec.json").exists())

    def definition(self, name: str) -> Program | None:
        """The definition of a program; None without one."""
        stored = read_json(self.folder(name) / "spec.json")
        if not stored:
            return None
        fields = {key: stored[key] for key in Program.__dataclass_fields__ if key in stored}
        return Program(**{**fields, "cwd": Path(fields["cwd"]), "log": Path(fields["log"])})

    def start(self, program: Program) -> None:
        """Define and start `program`. A running program is restarted if its definition changed."""
        with self._root.lock("supervisor"):
            changed = self._define(program)
            proxy = self._daemon()
            state = supervisord.state(proxy, program.name)
        # Without the lock: stopping takes as long as the program drains.
        if state is not None and (changed or state not in UP):
            self._remove(proxy, program)
            state = None
        if state is None:
            self._add(program.name)

    def stop(self, name: str) -> None:
        """Stop and remove `name`; no error if missing. Ends supervisord after the last program."""
        program = self.definition(name)
        seconds = program.stop_seconds if program else 10.0
        if (proxy := self._running()) is not None and program is not None:
            self._remove(proxy, program)
        launch.end(self._cookie(name), seconds)
        with self._root.lock("supervisor"):
            remove_tree(self.folder(name))
            if not self.names():
                self._shutdown()

    def restart(self, name: str) -> None:
        """Stop `name` and start it again with the same definition."""
        if (program := self.definition(name)) is None:
            known = ", ".join(self.names()) or "none"
            raise ResourceError(f"there is no program {name!r}: the programs are {known}")
        with self._root.lock("supervisor"):
            proxy = self._daemon()
        self._remove(proxy, program)
        self._add(name)

    def start_all(self) -> bool:
        """Start supervisord with all defined programs. Returns whether there are any."""
        with self._root.lock("supervisor"):
            if not self.names():
                return False
            self._daemon()
        return True

    def states(self) -> dict[str, str]:
        """supervisord's state of each program: RUNNING, STARTING, BACKOFF, FATAL, STOPPED, …

        Empty if supervisord is not running.
        """
        return {name: info["statename"] for name, info in self.infos().items()}

    def infos(self) -> dict[str, dict[str, Any]]:
        """The process information of supervisord (getAllProcessInfo) by program."""
        if (proxy := self._running()) is None:
            return {}
        try:
            infos = {info["group"]: info for info in proxy.getAllProcessInfo()}
            return {name: info for name, info in infos.items() if name != guard.NAME}
        except (OSError, http.client.HTTPException):  # it ended between the two calls
            return {}

    def pid(self) -> int | None:
        """The process id of supervisord; None if it is not running."""
        if (proxy := self._running()) is None:
            return None
        try:
            return int(proxy.getPID())
        except (OSError, http.client.HTTPException):  # it ended between the two calls
            return None

    def _add(self, name: str) -> None:
        with self._root.lock("supervisor"), supervisord.ignore_faults(Faults.ALREADY_ADDED):
            proxy = self._daemon()
            self._write_config()
            proxy.reloadConfig()
            with supervisord.ignore_faults(Faults.ALREADY_ADDED):
                proxy.addProcessGroup(guard.NAME)  # a supervisord of an earlier version has none
            proxy.addProcessGroup(name)

    def _cookie(self, name: str) -> str:
        return f"{self._root.path}:{name}"

    def _define(self, program: Program) -> bool:
        """Write the definition. Returns whether it differs from the one that was started last."""
        folder = self._root.folder("programs", program.name)
        program.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        spec = {
            **asdict(program),
            "cwd": str(program.cwd),
            "log": str(program.log),
            "cookie": self._cookie(program.name),
        }
        digest = _digest(spec)
        launcher = [sys.executable, "-I", "-S", launch.__file__, str(folder / "spec.json")]
        write_private(folder / "spec.json", json.dumps({**spec, "digest": digest}, indent=1))
        write_private(
            folder / "program.ini",
            supervisord.program_section(
                program.name, launcher, program.log, program.stop_signal, program.stop_seconds
            ),
        )
        # Compare with the definition that was started, not the one that was written: an update
        # that was killed in between has not restarted the program.
        started = folder / launch.STARTED
        if started.exists() and started.read_text() == digest:
            return False
        started.unlink(missing_ok=True)
        return True

    def _running(self) -> Any | None:
        """A client of the running supervisord; None if it is not running."""
        return supervisord.connect(self._socket) if self._home.exists() else None

    def _daemon(self) -> Any:
        if (proxy := self._running()) is not None:
            return proxy
        self._end_unreachable()
        self._write_config()
        home = self._home
        started = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(home / "supervisord.conf")],
            env={**base_environment(), launch.COOKIE: self._own_cookie},
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
            check=False,
        )
        if started.returncode != 0:
            raise ResourceError(f"supervisord failed to start: {started.stdout}{started.stderr}")
        for _ in range(600):
            if (proxy := self._running()) is not None:
                return proxy
            time.sleep(0.05)
        raise ResourceError(f"supervisord does not answer:\n{tail(home / 'supervisord.log')}")

    def _end_unreachable(self) -> None:
        """End a supervisord whose socket was deleted, for example by a cleaner of /tmp.

        It would continue to restart programs that the next supervisord also runs. A guard that
        started this process is spared: it tries again if this start fails.
        """
        launch.end(guard.cookie(self._root.path), 5, spared=os.getppid())
        launch.end(self._own_cookie, 30)

    @property
    def _own_cookie(self) -> str:
        return f"{self._root.path}:daemon:supervisord"

    def _write_config(self) -> None:
        home = self._root.folder("supervisor")
        programs = sorted((self._root.path / "programs").glob("*/program.ini"))
        file = home / "supervisord.conf"
        watch = guard.command(sys.executable, self._root.path)
        sections = [
            supervisord.program_section(guard.NAME, watch, home / "guard.log", "TERM", 5),
            *(program.read_text() for program in programs),
        ]
        write_private(file, supervisord.configuration(home, self._socket, sections))

    def _remove(self, proxy: Any, program: Program) -> None:
        with supervisord.ignore_faults(Faults.BAD_NAME, Faults.NOT_RUNNING):
            proxy.stopProcess(f"{program.name}:{program.name}", False)
        # supervisord reports its children's end about once a second.
        while True:
            with supervisord.ignore_faults(Faults.BAD_NAME):
                try:
                    proxy.removeProcessGroup(program.name)
                    return
                except xmlrpc.client.Fault as fault:
                    if fault.faultCode != Faults.STILL_RUNNING:
                        raise
                    time.sleep(0.1)
                    continue
            return

    def _shutdown(self) -> None:
        if (proxy := self._running()) is not None:
            pid = int(proxy.getPID())
            proxy.shutdown()
            while _alive(pid):
                time.sleep(0.05)
        self._end_unreachable()
        remove_tree(self._home)
        self._socket.unlink(missing_ok=True)


def _digest(spec: dict[str, Any]) -> str:
    """The digest of the fields of a definition whose change needs a restart."""
    fields = {key: value for key, value in spec.items() if key != "health"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
