"""Which plugin of pulumi-kubernetes the tests run with: the official one, or the stand-in."""

from __future__ import annotations

import shutil
from pathlib import Path

STANDIN = Path(__file__).parent / "provider"
OFFICIAL = shutil.which("pulumi-resource-kubernetes")
"""The one on PATH, which the engine takes by itself."""
PLUGINS = [] if OFFICIAL else [{"name": "kubernetes", "path": str(STANDIN)}]
"""What stands below `plugins.providers` in a project's Pulumi.yaml."""
SAYS = "using pulumi-resource-kubernetes from $PATH" if OFFICIAL else "stand-in of tests/"
"""What the engine or the plugin says in every preview."""
TOLD = f"pulumi-kubernetes: {f'official plugin {OFFICIAL}' if OFFICIAL else f'stand-in {STANDIN}'}"
