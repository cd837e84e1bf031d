"""The operations of the Kubernetes target: the `mlops` command for stacks on a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ....cli.checks import Checker
from ....cli.operations import Operations
from ....cli.selection import Stack


class KubernetesOperations(Operations):
    """Operations that use the API of the cluster."""

    def status(self, stack: Stack, *, as_json: bool) -> int:
        """See Operations."""
        from . import status  # noqa: PLC0415

        return status.run(stack, as_json=as_json)

    def logs(
        self, stack: Stack, name: str | None, *, follow: bool, lines: int, previous: bool
    ) -> int:
        """See Operations."""
        from . import logs  # noqa: PLC0415

        return logs.run(stack, name, follow=follow, lines=lines, previous=previous)

    def run(self, stack: Stack, pipeline: str) -> int:
        """See Operations."""
        from . import run  # noqa: PLC0415

        return run.run(stack, pipeline)

    def doctor(self, project: Path, name: str | None, stack: Stack | None) -> Mapping[str, Checker]:
        """See Operations."""
        from . import checks  # noqa: PLC0415

        return {} if stack is None else checks.checkers(stack)

    def connect(self, stack: Stack, *, env: str | None, command: Sequence[str]) -> int:
        """See Operations."""
        from . import connect  # noqa: PLC0415

        return connect.run(stack, env=env, command=command)

    def secrets(self, stack: Stack, *, as_json: bool, show: bool) -> int:
        """See Operations."""
        from . import secrets  # noqa: PLC0415

        return secrets.run(stack, as_json=as_json, show=show)
