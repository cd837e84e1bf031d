"""Runs the benchmark: figures on stdout and in build/bench.json, progress on stderr.

`make bench ARGS='serving local-growth'` runs these parts alone. Exit code 1 when a part failed or a
limit is missed, after all parts have run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import infrastructure
import infrastructure_kubernetes
import monitoring
import overload
import quality_pass
import serving
import serving_batched
from figures import Part, Report

BUILD = Path(__file__).resolve().parents[2] / "build"
PARTS: dict[str, Part] = {
    "serving": serving.requests,
    "monitoring-triggers": monitoring.triggers,
    "monitoring-detectors": monitoring.detectors,
    "monitoring-drift": monitoring.drift_tests,
    "quality-pass": quality_pass.one_day,
    "serving-batched": serving_batched.requests,
    "overload": overload.goodput,
    "local-unchanged": infrastructure.unchanged,
    "local-growth": infrastructure.growth,
    "local-platform": infrastructure.platform,
    "cluster-unchanged": infrastructure_kubernetes.unchanged,
    "cluster-create": infrastructure_kubernetes.create,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that the command line names; without a name, all of them."""
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="see --list; default: all")
    parser.add_argument("--list", action="store_true", help="print the names of the parts and end")
    parser.add_argument("--smoke", action="store_true",
                        help="run every step at the smallest size; limits are not judged, and "
                        "build/bench-smoke.json is written")  # fmt: skip
    parser.add_argument("--output", type=Path, help="the file to write")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(PARTS))
        return 0
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"unknown part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    selected = options.parts or list(PARTS)
    file = options.output or BUILD / ("bench-smoke.json" if options.smoke else "bench.json")
    return Report(file, smoke=options.smoke).run({name: PARTS[name] for name in selected})


if __name__ == "__main__":
    sys.exit(main())
