"""`pulumi-resource-mlops`: started by the engine, on the interpreter that has the package."""

from __future__ import annotations

import sys
from importlib.metadata import version

from ..targets import registry
from .handlers import SharedResources
from .server import serve


def main() -> None:
    """Answer the engine whose address is the first argument that is not a flag."""
    addresses = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    # A stack's state may have resources of any target, so all targets are served.
    targets = [registry.load(name).resources() for name in registry.names()]
    serve(
        [SharedResources(), *targets],
        version("pulumi-mlops"),
        addresses[0] if addresses else "",
    )


if __name__ == "__main__":
    main()
