"""Objects as files: what `renderYamlToDirectory` asks for instead of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .objects import name_of, namespace_of


def rendered_path(folder: Path, obj: Mapping[str, Any]) -> Path:
    """Where the object is rendered; definitions sort before what needs them."""
    kind = str(obj.get("kind"))
    version = str(obj.get("apiVersion")).replace("/", "_").replace(":", "_")
    name = f"{version}-{kind.lower()}-{namespace_of(obj) or 'default'}-{name_of(obj)}.yaml"
    return folder / ("0-crd" if kind == "CustomResourceDefinition" else "1-manifest") / name


def render(folder: Path, obj: Mapping[str, Any]) -> Path:
    """Write the object's file; what is secret in it is in clear, as the official plugin has it."""
    for each in ("0-crd", "1-manifest"):
        (folder / each).mkdir(mode=0o700, parents=True, exist_ok=True)
    path = rendered_path(folder, obj)
    path.write_text(yaml.safe_dump(dict(obj), sort_keys=True, allow_unicode=True))
    path.chmod(0o600)
    return path
