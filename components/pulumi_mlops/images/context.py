"""The folder that an image is built from, and the version that its reference has.

<version>/
    Dockerfile, .dockerignore
    requirements.txt
    ca.crt      the company's certificates; empty without
    code/       as it is imported from: /opt/code of the image
    netrc       credentials of the index; empty without, for its owner only, in no version

Same recipe, same bytes, modes and times, wherever and whenever it is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .. import sources
from ..files import write_private
from .options import BuildOptions, ImageError

DEFAULT_PYTHON = "3.11"
"""Of environments that name none: the same for everybody, whatever runs the program."""
_DOCKERFILE = Path(__file__).with_name("Dockerfile")
_FIXED_TIME = 315_532_800  # 1980, the earliest that archives can tell
_CREDENTIALS_IN_URL = re.compile(r"://[^/\s@]+@")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Python requirements, folders of code by the place where they are imported from (`.` is the
    top), and how images are built. Raises ImageError for what cannot be."""

    requirements: Sequence[str]
    python: str | None = None
    code: Mapping[str, Path] = field(default_factory=dict)
    options: BuildOptions = field(default_factory=BuildOptions)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"3\.\d+(\.\d+)?", self.python_version):
            raise ImageError(f"python: {self.python!r} is no version: as {DEFAULT_PYTHON!r}")
        for place in self.code:
            if PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
                raise ImageError(f"code: {place!r} leaves the image's /opt/code: no `..`, no `/`")
        for line in self.requirements:
            if _CREDENTIALS_IN_URL.search(line):
                shown = _CREDENTIALS_IN_URL.sub("://", line)
                raise ImageError(
                    f"requirements: {shown!r} has a password, which would be in the image: "
                    "give the index as a build option"
                )

    @property
    def python_version(self) -> str:
        """The version of Python that the image has."""
        return self.python or DEFAULT_PYTHON


def version(recipe: Recipe) -> str:
    """Sixteen hexadecimal digits that change when the image's contents would.

    Nothing is built or asked: the same everywhere. Credentials, proxies and the build's network are
    not in it. Raises ImageError for code or certificates that cannot be read.
    """
    return _version(recipe, _digests(recipe))


def build_args(recipe: Recipe, *, name: str = "") -> dict[str, str]:
    """The arguments of the build. No credential of an index is in them; proxies may have one."""
    index, *extra = recipe.options.indexes
    return {
        "BASE": recipe.options.base_for(recipe.python_version),
        "PYTHON": recipe.python_version,
        "SYSTEM_PACKAGES": " ".join(sorted(set(recipe.options.system_packages))),
        "INDEX_URL": index,
        "EXTRA_INDEX_URLS": " ".join(extra),
        "NAME": name,
        "VERSION": version(recipe),
        **{key.upper(): value for key, value in sorted(recipe.options.proxies.items())},
    }


def write(recipe: Recipe, parent: Path) -> Path:
    """Write `parent`/<version> and return it; whole or not at all, and only if it is not there.

    Raises ImageError when code cannot be read or changes meanwhile.
    """
    digests = _digests(recipe)
    target = parent / _version(recipe, digests)
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not target.exists():
        partial = Path(tempfile.mkdtemp(prefix=".", suffix=".new", dir=parent))
        try:
            _fill(partial, recipe)
            if _digests(recipe) != digests:
                raise ImageError("code changed while it was copied: run it again")
            # Another process may have been first, with the same contents.
            with contextlib.suppress(FileExistsError):
                _rename(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    write_private(target / "netrc", recipe.options.netrc())
    # A fixed time: the same content is the same layer of the image.
    os.utime(target / "netrc", (_FIXED_TIME, _FIXED_TIME))
    _settle(target)
    return target


def _version(recipe: Recipe, digests: Mapping[str, str]) -> str:
    options = recipe.options
    what = {
        "requirements": list(recipe.requirements),
        "python": recipe.python_version,
        "code": dict(digests),
        "dockerfile": hashlib.sha256(_DOCKERFILE.read_bytes()).hexdigest(),
        "base": options.base_for(recipe.python_version),
        "system_packages": sorted(set(options.system_packages)),
        "ca": hashlib.sha256(options.certificates()).hexdigest(),
        # Another index may have another package of the same name.
        "indexes": options.indexes,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def _digests(recipe: Recipe) -> dict[str, str]:
    found = {}
    for place, folder in recipe.code.items():
        try:
            found[place] = sources.digest(folder)
        except OSError as error:
            raise ImageError(f"code: {folder} cannot be read: {error}") from None
    return found


def _fill(folder: Path, recipe: Recipe) -> None:
    (folder / "Dockerfile").write_bytes(_DOCKERFILE.read_bytes())
    (folder / ".dockerignore").write_text("Dockerfile\n.dockerignore\n")
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in recipe.requirements))
    (folder / "ca.crt").write_bytes(recipe.options.certificates())
    (folder / "code").mkdir()
    for place, source in sorted(recipe.code.items()):
        sources.copy(source, folder / "code" / place)
    _normalise(folder)


def _normalise(folder: Path) -> None:
    """Modes that the image's user can read, whatever the umask, and one time for all."""
    for parent, folders, files in os.walk(folder):
        for name in files:
            file = Path(parent, name)
            file.chmod(0o755 if os.access(file, os.X_OK) else 0o644)
            os.utime(file, (_FIXED_TIME, _FIXED_TIME))
        for name in folders:
            Path(parent, name).chmod(0o755)
    folder.chmod(0o755)
    _settle(folder, below=True)


def _settle(folder: Path, *, below: bool = False) -> None:
    """Set a folder's own time, which every new file in it changes."""
    found = [Path(parent) for parent, _, _ in os.walk(folder)] if below else [folder]
    for each in found:
        os.utime(each, (_FIXED_TIME, _FIXED_TIME))


def _rename(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)
    except OSError:
        if not target.is_dir():
            raise
