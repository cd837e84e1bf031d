"""Starts the supervisor of a stack with all its programs, unless it is running:
`python -m pulumi_mlops.targets.local.host.starter STACK_FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from ....plugin.errors import ResourceError
from ....stackdir import StackDir
from .supervisor import Supervisor


def main() -> None:
    """Start the supervisor. Exits with the reason if that fails."""
    try:
        Supervisor(StackDir(Path(sys.argv[1]))).start_all()
    except (OSError, ResourceError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
