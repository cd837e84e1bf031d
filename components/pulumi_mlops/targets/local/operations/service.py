"""`mlops service` for the local target: a systemd user unit that starts the services of a stack."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

from ....cli.checks import output_of
from ....cli.selection import CommandError, Stack
from ..host import starter
from ..host.supervisor import Supervisor

_SECONDS = 30.0


def run(stack: Stack, action: str) -> int:
    """Run one of the actions `install`, `uninstall`, `start` and `print`."""
    match action:
        case "install":
            _install(stack)
        case "uninstall":
            _uninstall(stack)
        case "start":
            if not Supervisor(stack.root).start_all():
                raise CommandError(f"{stack.name} has no services: `pulumi up` creates them")
            print(f"the services of {stack.name} are started; `mlops status` shows their health")
        case _:
            print(unit(stack), end="")
    return 0


def unit_name(stack: Stack) -> str:
    """The name of the unit. The key tells apart stacks of the same name."""
    return f"mlops-{re.sub(r'[^A-Za-z0-9_.-]', '-', stack.name)}-{stack.root.key}.service"


def unit(stack: Stack) -> str:
    """The text of the unit (systemd.service). supervisord detaches itself, so it is a oneshot."""
    command = [sys.executable, "-m", starter.__name__, str(stack.root.path)]
    return "\n".join(
        [
            "[Unit]",
            f"Description=pulumi-mlops environment {_escaped(stack.name)}",
            "",
            "[Service]",
            "Type=oneshot",
            "RemainAfterExit=yes",
            f"ExecStart={' '.join(_quoted(word) for word in command)}",
            "# Services get SIGTERM when the machine is stopped, and time to finish requests.",
            "TimeoutStopSec=60",
            "",
            "[Install]",
            "WantedBy=default.target",
            "",
        ]
    )


def _install(stack: Stack) -> None:
    file = _unit_file(stack)
    _systemctl("show-environment", problem="this machine has no systemd user manager")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(unit(stack))
    _systemctl("daemon-reload")
    _systemctl("enable", file.name)
    print(f"{file} starts the services of {stack.name} with your login session")
    if not _lingers():
        print("To start them with the machine, without a login: loginctl enable-linger")


def _uninstall(stack: Stack) -> None:
    file = _unit_file(stack)
    if not file.exists():
        raise CommandError(f"{stack.name} has no unit: there is no {file}")
    _systemctl("disable", file.name, problem="the unit cannot be disabled")
    file.unlink()
    _systemctl("daemon-reload")
    print(f"{file} is removed; running services are left as they are")


def _unit_file(stack: Stack) -> Path:
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return config / "systemd" / "user" / unit_name(stack)


def _systemctl(*arguments: str, problem: str = "systemctl failed") -> None:
    code, _, errors = output_of(["systemctl", "--user", *arguments], _SECONDS)
    if code != 0:
        raise CommandError(
            f"{problem} (systemctl --user {shlex.join(arguments)}: {errors}). `mlops service "
            "print` prints the unit, and `mlops service start` starts the services, for another "
            "init system"
        )


def _lingers() -> bool:
    """Whether the user manager runs without a login."""
    command = ["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"]
    return output_of(command, _SECONDS)[1] == "yes"


def _quoted(word: str) -> str:
    """A word of ExecStart. `$` and `%` start expansions, also in quotes."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
