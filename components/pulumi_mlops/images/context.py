"""The build context of an image, and the version in its reference.

<version>/
    Dockerfile, .dockerignore
    requirements.txt, constraints.txt
    projects/   projects and packages that the requirements refer to as ./projects/<name>
    ca.crt      certificates of a private authority, or empty
    code/       becomes /opt/code of the image, where it is imported from
    netrc       credentials of the index, or empty; private, and not part of the version

The same recipe gives the same bytes, modes and times on every machine.
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
from ..files import update_private
from .options import BuildOptions, ImageError

DEFAULT_PYTHON = "3.11"
"""The default Python version. It does not depend on the interpreter of the program."""
_DOCKERFILE = Path(__file__).with_name("Dockerfile")
_PROJECT = "project:"
_FIXED_TIME = 315_532_800  # 1980, the earliest time in archives
_CREDENTIALS_IN_URL = re.compile(r"://[^/\s@]+@")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What determines an image: requirements, Python version, code and build options.

    `code` maps an import path (`.` is the top) to a folder. `projects` maps the names of local
    projects and packages to their paths. Raises ImageError for invalid values.
    """

    requirements: Sequence[str]
    constraints: Sequence[str] = ()
    projects: Mapping[str, Path] = field(default_factory=dict)
    python: str | None = None
    code: Mapping[str, Path] = field(default_factory=dict)
    options: BuildOptions = field(default_factory=BuildOptions)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"3\.\d+(\.\d+)?", self.python_version):
            raise ImageError(f"python: {self.python!r} is not a version such as {DEFAULT_PYTHON!r}")
        for place in self.code:
            if PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
                raise ImageError(
                    f"code: {place!r} is outside /opt/code of the image: no `..`, no `/`"
                )
        for line in (*self.requirements, *self.constraints):
            if _CREDENTIALS_IN_URL.search(line):
                shown = _CREDENTIALS_IN_URL.sub("://", line)
                raise ImageError(
                    f"requirements: {shown!r} contains a password, which the image would "
                    "contain too: set the index as a build option"
                )

    @property
    def python_version(self) -> str:
        """The Python version of the image."""
        return self.python or DEFAULT_PYTHON


def version(recipe: Recipe) -> str:
    """Sixteen hexadecimal digits that change when the image's contents would.

    It is computed from the recipe alone. Credentials, proxies and the network of the build do not
    count. Raises ImageError for code or certificates that cannot be read.
    """
    return _version(recipe, _digests(recipe))


def build_args(
    recipe: Recipe, *, name: str = "", known_version: str | None = None
) -> dict[str, str]:
    """The build arguments. They contain no credential of an index; a proxy may contain one.

    `known_version` is the version of the recipe; without it the code is read once more.
    """
    index, *extra = recipe.options.indexes
    return {
        "BASE": recipe.options.base_for(recipe.python_version),
        "PYTHON": recipe.python_version,
        "SYSTEM_PACKAGES": " ".join(sorted(set(recipe.options.system_packages))),
        "INDEX_URL": index,
        "EXTRA_INDEX_URLS": " ".join(extra),
        "NAME": name,
        "VERSION": known_version or version(recipe),
        **{key.upper(): value for key, value in sorted(recipe.options.proxies.items())},
    }


def write(recipe: Recipe, parent: Path) -> Path:
    """Write `parent`/<version> in one step, if it does not exist, and return it.

    Raises ImageError if code cannot be read, or changes during the copy.
    """
    digests = _digests(recipe)
    target = parent / _version(recipe, digests)
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not target.exists():
        partial = Path(tempfile.mkdtemp(prefix=".", suffix=".new", dir=parent))
        try:
            _fill(partial, recipe, digests)
            if _digests(recipe) != digests:
                raise ImageError("code changed during the copy: run the command again")
            # Another process may have written the same content.
            with contextlib.suppress(FileExistsError):
                _rename(partial, target)
            _code_folders[_code_key(digests)] = target / "code"
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    if update_private(target / "netrc", recipe.options.netrc()):
        # A fixed time: the same content gives the same image layer.
        os.utime(target / "netrc", (_FIXED_TIME, _FIXED_TIME))
        _settle(target)
    return target


def _version(recipe: Recipe, digests: Mapping[str, str]) -> str:
    options = recipe.options
    what = {
        "requirements": list(recipe.requirements),
        "constraints": list(recipe.constraints),
        "python": recipe.python_version,
        "code": dict(digests),
        "dockerfile": hashlib.sha256(_DOCKERFILE.read_bytes()).hexdigest(),
        "base": options.base_for(recipe.python_version),
        "system_packages": sorted(set(options.system_packages)),
        "ca": hashlib.sha256(options.certificates()).hexdigest(),
        # Two indexes may have different packages of the same name.
        "indexes": options.indexes,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def _digests(recipe: Recipe) -> dict[str, str]:
    """The digests of the code by its place, and of local requirements as `project:<name>`."""
    found = {}
    for kind, folders in (("", recipe.code), (_PROJECT, recipe.projects)):
        for place, folder in folders.items():
            try:
                found[f"{kind}{place}"] = sources.digest(folder)
            except OSError as error:
                raise ImageError(
                    f"{'a local requirement' if kind else 'code'}: {folder} cannot be read: {error}"
                ) from None
    return found


_code_folders: dict[tuple[tuple[str, str], ...], Path] = {}
"""The `code` folders that this process wrote, by the digests of the code."""


def _code_key(digests: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(item for item in digests.items() if not item[0].startswith(_PROJECT)))


def _fill(folder: Path, recipe: Recipe, digests: Mapping[str, str]) -> None:
    code = folder / "code"
    same = _code_folders.get(_code_key(digests))
    if same is not None and same.is_dir():
        # All endpoints run the same code. Links cost a tenth of copies, and nothing writes to them.
        shutil.copytree(same, code, copy_function=_link)
    else:
        code.mkdir()
        for place, source in sorted(recipe.code.items()):
            sources.copy(source, code / place)
        _normalise(code)
    projects = folder / "projects"
    projects.mkdir()
    for place, source in sorted(recipe.projects.items()):
        sources.copy(source, projects / place)
    _normalise(projects)
    for name, content in (
        ("Dockerfile", _DOCKERFILE.read_bytes()),
        (".dockerignore", b"Dockerfile\n.dockerignore\n"),
        ("requirements.txt", _lines(recipe.requirements)),
        ("constraints.txt", _lines(recipe.constraints)),
        ("ca.crt", recipe.options.certificates()),
    ):
        file = folder / name
        file.write_bytes(content)
        file.chmod(0o644)
        os.utime(file, (_FIXED_TIME, _FIXED_TIME))
    folder.chmod(0o755)
    _settle(folder)


def _lines(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _normalise(folder: Path) -> None:
    """Set modes that every user can read, independent of the umask, and one fixed time."""
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
    """Set the fixed time of folders: every new file in a folder changes it."""
    found = [Path(parent) for parent, _, _ in os.walk(folder)] if below else [folder]
    for each in found:
        os.utime(each, (_FIXED_TIME, _FIXED_TIME))


def _rename(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)
    except OSError:
        if not target.is_dir():
            raise
