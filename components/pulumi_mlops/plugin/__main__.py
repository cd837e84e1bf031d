"""`pulumi-resource-mlops`: the executable of the resource plugin, which the engine starts."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

from ..runtime.net import direct_loopback
from ..targets import registry
from .handlers import SharedResources
from .server import serve


def main() -> None:
    """Serve the engine. Its address is the first argument that is not a flag."""
    os.environ.update(direct_loopback(os.environ))
    addresses = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    # The state of a stack may contain resources of any target, so all targets are served.
    targets = []
    for name in registry.names():
        try:
            targets.append(registry.load(name).resources())
        except Exception as error:  # a broken target must not stop the stacks of other targets
            print(f"mlops: the target {name} is not available: {error}", file=sys.stderr)
    serve(
        [SharedResources(), *targets],
        version("pulumi-mlops"),
        addresses[0] if addresses else "",
    )


if __name__ == "__main__":
    main()
