"""Write every file that is generated from the declarations of inputs: `make generate`.

An input is declared once, as a field of a component's Spec, of a target's settings or of a
resource's Inputs. With `--check` nothing is written, and stale files are an error.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pulumi

sys.path.insert(0, str(Path(__file__).resolve().parent))
from python_modules import args_module, formatted, resources_module
from reference import reference

import pulumi_mlops
from pulumi_mlops import config
from pulumi_mlops.plugin.handler import Handler
from pulumi_mlops.plugin.handlers import SharedResources
from pulumi_mlops.spec import Spec
from pulumi_mlops.targets import registry

DISTRIBUTION = "pulumi-mlops"
COMMAND = "make generate"


@dataclass(frozen=True)
class Declarations:
    """Every model that files are generated from."""

    components: dict[type[pulumi.ComponentResource], type[Spec]]
    targets: dict[str, type[Spec]]
    """Settings of the targets of this distribution that have some."""
    shared: list[Handler[Any]]
    handlers: dict[str, list[Handler[Any]]]
    """Of the resources of each target of this distribution."""


def declarations() -> Declarations:
    """What the package declares."""
    components = {}
    for name in pulumi_mlops.__all__:
        if f"{name}Args" in pulumi_mlops.__all__:
            component = getattr(pulumi_mlops, name)
            components[component] = getattr(import_module(component.__module__), f"{name}Spec")
    packages = {name: registry.load(name) for name in registry.names(DISTRIBUTION)}
    settings = {name: package.settings() for name, package in packages.items()}
    return Declarations(
        components=components,
        targets={name: model for name, model in settings.items() if model is not None},
        shared=SharedResources().handlers(),
        handlers={name: package.resources().handlers() for name, package in packages.items()},
    )


def generated(declared: Declarations) -> dict[str, str]:
    """The content of every generated file, by its path in the repository."""
    package = "components/pulumi_mlops"
    base = "MlopsResource"
    python = {
        f"{package}/args.py": args_module(list(declared.components.values())),
        f"{package}/plugin/sdk.py": resources_module(
            "of every target", declared.shared, base, f"from .resource import {base}"
        ),
    }
    for name, handlers in declared.handlers.items():
        module = type(registry.load(name)).__module__.replace(".", "/")
        python[f"components/{module}/sdk.py"] = resources_module(
            f"of the target `{name}`", handlers, base, f"from ...plugin.resource import {base}"
        )
    handlers = [*declared.shared, *(each for part in declared.handlers.values() for each in part)]
    schema = json.dumps(config.json_schema(), indent=2, ensure_ascii=False) + "\n"
    return {
        **{path: formatted(source, path) for path, source in python.items()},
        "stacks/schema.json": schema,
        "docs/reference.md": reference(
            declared.components, config.PlatformConfig, declared.targets, handlers
        ),
    }


def stale(root: Path, files: dict[str, str]) -> list[str]:
    """The paths whose content in `root` is another one."""
    return [
        path
        for path, content in files.items()
        if not (root / path).exists() or (root / path).read_text(encoding="utf-8") != content
    ]


def main() -> int:
    """Write the files that are stale, or name them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail for stale files")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    options = parser.parse_args()
    files = generated(declarations())
    found = stale(options.root, files)
    for path in found:
        if options.check:
            print(f"{path} is stale: run `{COMMAND}`", file=sys.stderr)
        else:
            (options.root / path).parent.mkdir(parents=True, exist_ok=True)
            (options.root / path).write_text(files[path], encoding="utf-8")
            print(f"wrote {path}")
    return 1 if options.check and found else 0


if __name__ == "__main__":
    sys.exit(main())
