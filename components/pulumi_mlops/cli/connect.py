"""`mlops connect`."""

from __future__ import annotations

import argparse

from .selection import ClusterStack, UsageError, find_target, named_stack, project_folder


def run(options: argparse.Namespace) -> int:
    """Open tunnels to a stack on a cluster, until they are ended or the given command ends."""
    stack = find_target(project_folder(options.project), named_stack(options.stack))
    if not isinstance(stack, ClusterStack):
        raise UsageError(
            f"{stack.name} runs on this machine: `mlops status` says where; "
            "`mlops connect` is for a stack with mlops:target kubernetes"
        )
    from .cluster import connect  # noqa: PLC0415 - a stack of this machine needs none of it

    return connect.run(stack, options)
