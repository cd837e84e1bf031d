"""Commands of `mlops` for stacks on the target."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pulumi_mlops.cli.checks import Checker
from pulumi_mlops.cli.operations import Operations
from pulumi_mlops.cli.selection import CommandError, Stack, UsageError, select_job, select_logs
from pulumi_mlops.files import tail
from pulumi_mlops.plugin.errors import ResourceError

from . import processes
from .resources import run_job


class ToyOperations(Operations):
    """Programs and jobs, by their files."""

    def status(self, stack: Stack, *, as_json: bool) -> int:
        """See Operations."""
        running = {
            name: processes.is_running(stack.root, name) for name in processes.programs(stack.root)
        }
        if as_json:
            print(json.dumps({"stack": stack.name, "programs": running}))
        else:
            for name, is_running in running.items():
                print(f"{name}  {'running' if is_running else 'stopped'}")
        return 0 if all(running.values()) else 1

    def logs(
        self, stack: Stack, name: str | None, *, follow: bool, lines: int, previous: bool
    ) -> int:
        """See Operations."""
        if follow or previous:
            raise UsageError("the toy target shows the last lines only")
        files = {file.stem: file for file in (stack.root.path / "toy" / "logs").glob("*.log")}
        if name is None:
            print("\n".join(sorted(files)))
            return 0
        for each in select_logs(name, sorted(files)):
            print(tail(files[each], lines))
        return 0

    def run(self, stack: Stack, pipeline: str) -> int:
        """See Operations."""
        folder = stack.root.path / "toy" / "jobs"
        known = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        try:
            outputs = run_job(folder / select_job(pipeline, known))
        except ResourceError as error:
            raise CommandError(str(error)) from None
        print(json.dumps(outputs))
        return 0

    def doctor(self, project: Path, name: str | None, stack: Stack | None) -> Mapping[str, Checker]:
        """See Operations. The toy target needs nothing."""
        return {}
