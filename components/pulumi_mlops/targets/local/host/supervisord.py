"""The configuration file and XML-RPC interface of supervisord (supervisord.org)."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import xmlrpc.client
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport

from ....plugin.errors import ResourceError

# A limit for a blocked supervisord: it answers at once, also while programs start and stop.
ANSWER_SECONDS = 60.0


def connect(path: Path) -> Any | None:
    """A client of the supervisord that listens on `path`; None if none does."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            probe.connect(str(path))
    except OSError:
        return None
    return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=_Transport(path)).supervisor


class _Transport(SupervisorTransport):  # type: ignore[misc]
    """The library's transport with a timeout: a stopped supervisord would block it forever."""

    def __init__(self, path: Path) -> None:
        super().__init__(None, None, serverurl=f"unix://{path}")
        self._path = path
        unlimited: Callable[[], Any] = self._get_connection  # type: ignore[has-type]

        def limited() -> Any:
            connection = unlimited()
            connection.connect()
            connection.sock.settimeout(ANSWER_SECONDS)
            return connection

        self._get_connection = limited

    def request(self, *arguments: Any, **options: Any) -> Any:
        """Send a request. Raises ResourceError if supervisord does not answer."""
        try:
            return super().request(*arguments, **options)
        except TimeoutError:
            raise ResourceError(
                f"supervisord does not answer on {self._path} within {ANSWER_SECONDS:g} s. If its "
                "process is stopped, continue it (kill -CONT). Otherwise end it (kill -9) and run "
                "`pulumi up`"
            ) from None


@contextlib.contextmanager
def ignore_faults(*codes: int) -> Iterator[None]:
    """Ignore these faults of a call."""
    try:
        yield
    except xmlrpc.client.Fault as fault:
        if fault.faultCode not in codes:
            raise


def state(proxy: Any, name: str) -> str | None:
    """The state of a program: RUNNING, STARTING, BACKOFF, …; None for an unknown program."""
    with ignore_faults(Faults.BAD_NAME):
        return str(proxy.getProcessInfo(f"{name}:{name}")["statename"])
    return None


def program_section(
    name: str, command: Sequence[str], log: Path, stop_signal: str, stop_seconds: float
) -> str:
    """The section of one program. Raises ResourceError for a path that it cannot contain."""
    return "\n".join(
        [
            f"[program:{name}]",
            f"command={_escaped(shlex.join(command))}",
            # supervisord expands this value twice.
            f"stdout_logfile={_escaped(_escaped(str(log)))}",
            "redirect_stderr=true",
            "stdout_logfile_maxbytes=10MB",
            "stdout_logfile_backups=3",
            "autorestart=true",
            "startsecs=1",
            # The pause grows by one second per retry. supervisord never gives up.
            "startretries=1000000",
            f"stopsignal={stop_signal}",
            f"stopwaitsecs={max(1, round(stop_seconds))}",
            "killasgroup=true",
            "",
        ]
    )


def configuration(home: Path, listen: Path, sections: Iterable[str]) -> str:
    """The configuration file of supervisord in folder `home`, with the socket `listen`.

    The programs are `sections` of the same file. supervisord's `include` takes patterns, which do
    not match paths with brackets or spaces.
    """
    return "\n".join(
        [
            "[unix_http_server]",
            f"file={_escaped(str(listen))}",
            "chmod=0600",
            "[supervisord]",
            f"logfile={_escaped(str(home / 'supervisord.log'))}",
            f"pidfile={_escaped(str(home / 'supervisord.pid'))}",
            f"childlogdir={_escaped(str(home))}",
            "umask=077",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
            *sections,
        ]
    )


def _escaped(text: str) -> str:
    """`text` with % escaped, which starts an expansion in the configuration file.

    Raises ResourceError for what cannot be escaped: a # or ; after a space, which starts a comment,
    and `%(here)s`, which supervisord replaces before it reads escapes.
    """
    if (mark := re.search(r"\s[#;]|%\(here\)s", text)) is not None:
        raise ResourceError(
            f"{text!r} contains {mark[0]!r}, which has a special meaning in the configuration of "
            "supervisord: move the project, or its Python environment, to a folder without this"
        )
    return text.replace("%", "%%")
