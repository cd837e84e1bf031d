"""Find the Pulumi engine, or make it, and link its folder where the Makefile expects it.

In this order: `pulumi` on PATH (3.200 or newer, with its Python language host), the user's cache,
the official installer, and, where the vendor's site cannot be reached, a build of the pinned
modules in `cli/` and `language-python/` through the Go module proxy. Whatever is installed or built
is complete before it appears in the cache, under a lock, so it can be interrupted at any time.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared"))
from cache import Way, cache_folder, fill
from engine_build import HERE, HOST, build
from progress import Speaker, ToolError, numbers, run, say, version_of

MINIMUM = (3, 200)
INSTALLER = "https://get.pulumi.com/install.sh"
INSTALLER_ANSWER_SECONDS = 10
INSTALLER_SECONDS = 900


def pinned_version() -> str:
    """The engine version that the committed module files build, such as `3.250.0`."""
    found = re.search(
        r"github\.com/pulumi/pulumi/pkg/v3 v(\S+)", (HERE / "cli" / "go.mod").read_text()
    )
    if found is None:
        raise ToolError(f"{HERE}/cli/go.mod does not require github.com/pulumi/pulumi/pkg/v3")
    return found[1]


def on_path(path: str) -> Path | None:
    """The folder of a `pulumi` on PATH that is new enough and has its Python language host."""
    found = shutil.which("pulumi", path=path)
    if found is None:
        return None
    # Resolved, because the link that this script makes may itself be on PATH.
    folder = Path(found).resolve().parent
    version = version_of([found, "version"])
    if version is None or numbers(version) < MINIMUM:
        wanted = ".".join(map(str, MINIMUM))
        say(f"{found} is passed over: version {version or 'unknown'}, {wanted} or newer is needed")
        return None
    if not (os.access(folder / HOST, os.X_OK) or shutil.which(HOST, path=path)):
        say(f"{found} is passed over: {HOST} is neither beside it nor on PATH")
        return None
    return folder


def usable(folder: Path, version: str) -> bool:
    """Whether a cached folder holds this engine and its language host, and the engine runs."""
    if not all(os.access(folder / name, os.X_OK) for name in ("pulumi", HOST, f"{HOST}-exec")):
        return False
    return version_of([str(folder / "pulumi"), "version"]) == f"v{version}"


def install(folder: Path, version: str) -> None:
    """Let the official installer fill `folder`/bin; give up soon where it cannot be reached."""
    try:
        with urllib.request.urlopen(INSTALLER, timeout=INSTALLER_ANSWER_SECONDS):
            pass
    except OSError as error:
        raise ToolError(f"the official installer cannot be reached ({error})") from error
    program = (
        "import sys; from semver import VersionInfo; from pulumi.automation import PulumiCommand;"
        "PulumiCommand.install(root=sys.argv[1], version=VersionInfo.parse(sys.argv[2]))"
    )
    run(
        [sys.executable, "-c", program, str(folder), version],
        {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
        folder,
        status=lambda elapsed: f"installing pulumi {version} ({elapsed:.0f} s)",
        limit_seconds=INSTALLER_SECONDS,
    )


def make(cache: Path, version: str, ways: Sequence[Way]) -> Path:
    """Fill `cache`/`version` by the first way that works, and return its bin folder."""
    minimum = ".".join(map(str, MINIMUM))
    return fill(
        cache, version, ways, usable, f"pulumi {version}", f"put pulumi {minimum} or newer on PATH"
    )


def link(place: Path, folder: Path) -> None:
    """Point `place` at `folder`, in one step."""
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f"{place.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder)
    fresh.replace(place)


def find(source: str) -> Path:
    """The engine's folder, by one way (`path`, `installer`, `build`) or the first that works."""
    ways: Sequence[Way] = {
        "installer": [install],
        "build": [build],
        "any": [install, build],
        "path": [],
    }[source]
    cache, version = cache_folder(os.environ, "engine").resolve(), pinned_version()
    found = on_path(os.environ.get("PATH", "")) if source in {"any", "path"} else None
    # In the shell of `make env` the one on PATH is the cache's own, perhaps of an older pin.
    if found is not None and cache not in found.parents:
        return found
    if not ways:
        raise ToolError("no usable pulumi on PATH")
    ready = cache / version / "bin"
    return ready if usable(ready, version) else make(cache, version, ways)


def stop(signum: int, _frame: Any) -> None:
    sys.exit(128 + signum)  # unwinds, so that the half-made folder and the child are gone


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--link", type=Path, help="a symbolic link to make to the engine's folder")
    parser.add_argument("--source", choices=["any", "path", "installer", "build"], default="any")
    options = parser.parse_args()
    Speaker.name = "engine"
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    try:
        folder = find(options.source)
    except ToolError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; nothing half-made is left")
        return 130
    if options.link:
        link(options.link, folder)
    say(f"{version_of([str(folder / 'pulumi'), 'version'])} in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
