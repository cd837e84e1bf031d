"""Find or build the Pulumi engine, and link its folder to the path that the Makefile expects.

In this order: `pulumi` on PATH (3.200 or newer, with its Python language host), the user's cache,
the official installer, and, if the vendor's site cannot be reached, a build of the pinned modules
in `cli/` and `language-python/` through the Go module proxy. An engine appears in the cache when it
is complete, under a lock, so this program can be interrupted at any time.
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
from packaging.version import Version
from progress import Speaker, ToolError, release, run, say, version_of

MINIMUM = Version("3.200")
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
    """The folder of a supported `pulumi` on PATH with its Python language host, or None."""
    found = shutil.which("pulumi", path=path)
    if found is None:
        return None
    # Resolved, because the link that this script creates may be on PATH.
    folder = Path(found).resolve().parent
    version = version_of([found, "version"])
    if version is None or release(version) < MINIMUM:
        say(f"{found} is not used: version {version or 'unknown'}, {MINIMUM} or newer is required")
        return None
    if not (os.access(folder / HOST, os.X_OK) or shutil.which(HOST, path=path)):
        say(f"{found} is not used: {HOST} is neither in its folder nor on PATH")
        return None
    return folder


def usable(folder: Path, version: str) -> bool:
    """Whether a cached folder contains this engine and its language host, and the engine runs."""
    if not all(os.access(folder / name, os.X_OK) for name in ("pulumi", HOST, f"{HOST}-exec")):
        return False
    return version_of([str(folder / "pulumi"), "version"]) == f"v{version}"


def install(folder: Path, version: str) -> None:
    """Run the official installer into `folder`/bin. Fails soon if it cannot be reached."""
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
    """Fill `cache`/`version` with the first way that works. Returns its bin folder."""
    return fill(
        cache, version, ways, usable, f"pulumi {version}", f"put pulumi {MINIMUM} or newer on PATH"
    )


def link(path: Path, folder: Path) -> None:
    """Create or replace the symbolic link `path` to `folder` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder)
    temporary.replace(path)


def find(source: str) -> Path:
    """The folder of the engine, from one source or the first that works (`any`)."""
    ways: Sequence[Way] = {
        "installer": [install],
        "build": [build],
        "any": [install, build],
        "path": [],
    }[source]
    cache, version = cache_folder(os.environ, "engine").resolve(), pinned_version()
    found = on_path(os.environ.get("PATH", "")) if source in {"any", "path"} else None
    # In a shell of `make env`, the engine on PATH is from the cache, perhaps of an older version.
    if found is not None and cache not in found.parents:
        return found
    if not ways:
        raise ToolError("no usable pulumi on PATH")
    ready = cache / version / "bin"
    return ready if usable(ready, version) else make(cache, version, ways)


def stop(signum: int, _frame: Any) -> None:
    sys.exit(128 + signum)  # cleanup code removes the incomplete folder and the child


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--link", type=Path, help="the link to the engine's folder to create")
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
        say("interrupted; incomplete files are removed")
        return 130
    if options.link:
        link(options.link, folder)
    say(f"{version_of([str(folder / 'pulumi'), 'version'])} in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
