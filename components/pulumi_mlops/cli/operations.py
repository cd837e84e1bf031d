"""What a target does for the `mlops` command, beside provisioning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from .checks import Checker
from .selection import Stack, UsageError


class Operations(ABC):
    """The commands for a stack on one target.

    Each prints for people, or JSON for programs, and returns an exit code. Each raises UsageError
    for something that is not there, and CommandError for something that is wrong.
    """

    @abstractmethod
    def status(self, stack: Stack, *, as_json: bool) -> int:
        """Show every program, route, job and volume; 1 when one of them is not healthy."""

    @abstractmethod
    def logs(
        self, stack: Stack, name: str | None, *, follow: bool, lines: int, previous: bool
    ) -> int:
        """Show the last `lines` of the log of `name`, or list all logs without a name."""

    @abstractmethod
    def run(self, stack: Stack, pipeline: str) -> int:
        """Run a deployed job now; the exit code of the job."""

    @abstractmethod
    def doctor(self, project: Path, name: str | None, stack: Stack | None) -> Mapping[str, Checker]:
        """The checks of what the target needs, by title. `stack` is None when there is none yet."""

    def connect(self, stack: Stack, *, env: str | None, command: Sequence[str]) -> int:
        """Open tunnels to the stack until Ctrl-C, or until `command` has ended.

        `env` is a file for the variables with credentials, or `-` for standard output.
        """
        raise UsageError(
            f"{stack.name}: its addresses are reached from this machine without tunnels; "
            "`mlops status` lists them"
        )

    def service(self, stack: Stack, action: str) -> int:
        """Have this machine start the services of the stack: `install`, `uninstall`, `start` or
        `print`."""
        raise UsageError(f"{stack.name}: its services do not run on this machine")

    def secrets(self, stack: Stack, *, as_json: bool, show: bool) -> int:
        """Print the Secrets that rendered manifests refer to."""
        raise UsageError(
            f"{stack.name} renders no manifests: `mlops secrets` is for stacks whose target does"
        )
