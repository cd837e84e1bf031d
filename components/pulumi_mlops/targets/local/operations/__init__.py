"""The operations of the local target: the `mlops` command for stacks on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ....cli.checks import Checker
from ....cli.operations import Operations
from ....cli.selection import Stack, UsageError, data_folder, provision_hint, stacks_in


class LocalOperations(Operations):
    """Operations that read the stack folder, ask the supervisor and run health checks."""

    def status(self, stack: Stack, *, as_json: bool) -> int:
        """See Operations."""
        from . import status  # noqa: PLC0415

        return status.run(_provisioned(stack), as_json=as_json)

    def logs(
        self, stack: Stack, name: str | None, *, follow: bool, lines: int, previous: bool
    ) -> int:
        """See Operations."""
        from . import logs  # noqa: PLC0415

        return logs.run(_provisioned(stack), name, follow=follow, lines=lines, previous=previous)

    def run(self, stack: Stack, pipeline: str) -> int:
        """See Operations."""
        from . import run  # noqa: PLC0415

        return run.run(_provisioned(stack), pipeline)

    def service(self, stack: Stack, action: str) -> int:
        """See Operations."""
        from . import service  # noqa: PLC0415

        return service.run(_provisioned(stack), action)

    def doctor(self, project: Path, name: str | None, stack: Stack | None) -> Mapping[str, Checker]:
        """See Operations."""
        from . import checks, checks_machine  # noqa: PLC0415

        base = stack.files.parent if stack else data_folder(project, name or "")
        plan: dict[str, Checker] = {
            "system": checks_machine.system,
            "uv": checks_machine.uv,
            "package index": checks_machine.index,
            "HAProxy": checks_machine.haproxy,
            "disk space": partial(checks_machine.disk, base),
        }
        if stack is not None and stack.files.exists():
            plan |= {
                "supervisor": partial(checks.supervisor, stack.root),
                "model versions": partial(checks.models, stack.root),
                "sockets": partial(checks.sockets, stack.root),
                "ports": partial(checks.own_ports, stack.root),
            }
        return plan | {"port claims": checks.claims, "leftovers": checks.leftovers}


def _provisioned(stack: Stack) -> Stack:
    """Return `stack`. Raises UsageError if it has no files on this machine."""
    base = stack.files.parent
    if stack.name in (existing := stacks_in(base)):
        return stack
    hint = f"the stacks with files are {', '.join(existing)}. " if existing else ""
    raise UsageError(
        f"stack {stack.name!r} has no files in {base}: {hint}{provision_hint(stack.name)}"
    )
