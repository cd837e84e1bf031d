"""`mlops version`."""

from __future__ import annotations

import argparse
from importlib.metadata import version


def run(_options: argparse.Namespace) -> int:
    """Print the version of the package."""
    print(f"pulumi-mlops {version('pulumi-mlops')}")
    return 0
