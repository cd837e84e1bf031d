"""Runs all benchmarks of this folder: a table on stdout, figures in build/bench.json.

A benchmark is a module here with ``measure() -> list[Result]``. Exit code 1 when a limit is missed.
"""

from __future__ import annotations

import ast
import importlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parents[1] / "build" / "bench.json"
sys.path.insert(0, str(HERE))

from common import Result, progress  # noqa: E402


def benchmarks() -> list[str]:
    """The modules here that define measure(); read, not imported: some are servers."""
    return [
        path.stem
        for path in sorted(HERE.glob("*.py"))
        if any(
            isinstance(node, ast.FunctionDef) and node.name == "measure"
            for node in ast.parse(path.read_text()).body
        )
    ]


def report(results: list[Result]) -> int:
    """Print the table and write the file."""
    width = max((len(result.name) for result in results), default=4)
    print(f"{'name':<{width}}  {'ratio':>12}  {'limit':>8}")
    for result in results:
        verdict = "" if result.met else "  MISSED"
        bound = "<=" if result.at_most else ">="
        limit = "" if result.limit is None else f"{bound} {result.limit:g}"
        figure = f"{result.ratio:.2f} {'' if result.unit == 'ratio' else result.unit}"
        print(f"{result.name:<{width}}  {figure:>12}  {limit:>8}{verdict}")
    figures = {
        result.name: {
            "ratio": result.ratio,
            "limit": result.limit,
            "unit": result.unit,
            "samples": result.samples,
        }
        for result in results
    }
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if all(result.met for result in results) else 1


def main() -> int:
    results: list[Result] = []
    for name in benchmarks():
        progress(f"{name} …")
        results += importlib.import_module(name).measure()
    return report(results)


if __name__ == "__main__":
    sys.exit(main())
