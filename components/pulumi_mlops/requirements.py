"""Requirements of Python environments: files in the format of pip, and what they refer to.

Source of the format: pip.pypa.io, "Requirements File Format". As with pip, each path in a file is
relative to that file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pulumi
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from .sources import digest

_COMMENT = re.compile(r"(^|\s+)#.*$")
_FILE_OPTION = re.compile(
    r"(?P<option>-[rcef]|--requirement|--constraint|--editable|--find-links)(\s+|\s*=\s*|(?<=-[rcef]))(?P<value>.+)"
)
_REFERENCE = re.compile(
    r"((?P<name>[A-Za-z0-9][\w.-]*\s*(\[[^\]]*\])?)\s*@\s*)?"
    r"(?P<path>[^\[;]+?)(?P<extras>\[[^\]]*\])?(?P<rest>\s*;.*|\s+--.*)?"
)
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2")
_PROJECT_FILES = ("pyproject.toml", "setup.py")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SETUPTOOLS_WITH_PKG_RESOURCES = "setuptools<81"
_MLFLOW_WITHOUT_PKG_RESOURCES = Version("2.16")
"""Earlier versions import `pkg_resources` without a requirement for it."""


@dataclass(kw_only=True)
class RequirementSet:
    """Requirements without references to other files.

    `projects` has the projects and packages of this machine. A requirement refers to one of them as
    `./projects/<name>`.
    """

    lines: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    projects: dict[str, Path] = field(default_factory=dict)


def read_requirements(
    where: str, requirements: str | Sequence[str], folder: Path
) -> RequirementSet:
    """The requirements of an input: a list, or the path of a file in `folder`.

    Files that `-r` and `-c` name are read as well. Comments and empty lines are omitted: they are
    no reason to change a Python environment. `where` is the path of the input. Raises
    pulumi.RunError for an unreadable file and for an invalid line.
    """
    reader = _Reader(where)
    if isinstance(requirements, str):
        reader.read_file(folder / requirements, constraint=False)
    else:
        for number, line in enumerate(requirements, start=1):
            reader.add(line, folder, f"item {number}", constraint=False)
    return reader.found


class _Reader:
    def __init__(self, where: str) -> None:
        self.found = RequirementSet()
        self._where = where
        self._read: set[tuple[Path, bool]] = set()

    def read_file(self, file: Path, *, constraint: bool, origin: str = "") -> None:
        """Add the lines of a file. `origin` is the line that refers to it."""
        try:
            known = (file.resolve(), constraint)
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
            raise pulumi.RunError(
                f"{self._where}: {origin}{file}: {reason}: set the path of a requirements file, or "
                "a list of requirements"
            ) from None
        if known in self._read:
            return
        self._read.add(known)
        for number, line in _logical_lines(text):
            self.add(line, file.parent, f"{file}, line {number}", constraint=constraint)

    def add(self, line: str, folder: Path, origin: str, *, constraint: bool) -> None:
        """Add one line, whose paths are relative to `folder`."""
        line = _COMMENT.sub("", line).strip()
        if not line:
            return
        option = _FILE_OPTION.fullmatch(line)
        if option is not None:
            self._add_file_option(option["option"], option["value"].strip(), folder, origin,
                                  constraint=constraint)  # fmt: skip
        elif line.startswith("-"):
            self.found.lines.append(line)
        else:
            target = self.found.constraints if constraint else self.found.lines
            target.append(self._requirement(line, folder, origin))

    def _add_file_option(
        self, option: str, value: str, folder: Path, origin: str, *, constraint: bool
    ) -> None:
        if option in {"-e", "--editable"}:
            # Not editable: an environment must not change between updates.
            self.found.lines.append(self._requirement(value, folder, origin))
        elif "://" in value and not value.startswith("file:"):
            if option in {"-r", "--requirement"}:
                raise pulumi.RunError(
                    f"{self._where}: {origin}: {option} {value}: a requirements file must be on "
                    "this machine: download it, and set its path"
                )
            self.found.lines.append(f"{option} {value}")
        elif option in {"-f", "--find-links"}:
            name = self._project(_path(value, folder), value, origin)
            self.found.lines.append(f"--find-links ./projects/{name}")
        else:
            self.read_file(
                _path(value, folder),
                constraint=constraint or option in {"-c", "--constraint"},
                origin=f"{origin}: ",
            )

    def _requirement(self, line: str, folder: Path, origin: str) -> str:
        reference = _REFERENCE.fullmatch(line)
        if reference is not None and _is_local(reference["path"], folder):
            path = _path(reference["path"], folder)
            if path.is_dir() and not any((path / name).is_file() for name in _PROJECT_FILES):
                raise pulumi.RunError(
                    f"{self._where}: {origin}: {path} has no pyproject.toml and no setup.py: set "
                    "the path of a Python project"
                )
            place = f"./projects/{self._project(path, line, origin)}"
            name = f"{reference['name'].strip()} @ " if reference["name"] else ""
            return f"{name}{place}{reference['extras'] or ''}{reference['rest'] or ''}"
        if "://" in line or "${" in line:
            return line
        try:
            Requirement(re.split(r"\s+--", line, maxsplit=1)[0])
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            raise pulumi.RunError(
                f"{self._where}: {origin}: {line!r} is not a requirement ({reason}): write a name "
                "and versions, such as scikit-learn>=1.5, or a path that begins with ./"
            ) from None
        return line

    def _project(self, path: Path, line: str, origin: str) -> str:
        """The name of a local project or package in `found.projects`."""
        if not path.exists():
            raise pulumi.RunError(
                f"{self._where}: {origin}: {line}: {path} does not exist: correct the path, which "
                "is relative to the file that it is in"
            )
        path = path.resolve()
        for name, known in self.found.projects.items():
            if known == path:
                return name
        name, number = path.name, 2
        while name in self.found.projects:
            # A wheel keeps its file name, which has its version.
            name, number = f"{number}/{path.name}", number + 1
        self.found.projects[name] = path
        return name


def digests_of(where: str, projects: Mapping[str, Path]) -> dict[str, str]:
    """Digests of local projects and packages. Raises pulumi.RunError if one cannot be read."""
    try:
        return {name: digest(path) for name, path in projects.items()}
    except OSError as error:
        raise pulumi.RunError(f"{where}: a local requirement cannot be read: {error}") from None


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their number. A backslash at the end joins the next line."""
    joined, start = "", 1
    for number, line in enumerate(text.splitlines(), start=1):
        if not joined:
            start = number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            joined += line[:-1]
            continue
        yield start, joined + line
        joined = ""
    if joined:
        yield start, joined


def _is_local(path: str, folder: Path) -> bool:
    """Whether a requirement is a path, by the rules of pip."""
    if path.startswith("file:"):
        return True
    if "://" in path:
        return False
    if path.startswith((".", "/", "~")) or "/" in path:
        return True
    return path.endswith(_ARCHIVES) and (folder / path).is_file()


def _path(text: str, folder: Path) -> Path:
    expanded = os.path.expandvars(text.strip().strip("'\""))
    return folder / Path(re.sub(r"^file:(//(?=/))?", "", expanded)).expanduser()


def with_model_server(model: Sequence[str], server: Sequence[str]) -> list[str]:
    """The requirements of a model and those of the model server.

    A requirement of the model replaces the server's for the same project.
    """
    listed = {_project(line) for line in model}
    added = [line for line in server if _project(line) not in listed]
    if "setuptools" not in listed and any(_is_mlflow_before_2_16(line) for line in model):
        added.append(_SETUPTOOLS_WITH_PKG_RESOURCES)
    return [*model, *added]


def _project(line: str) -> str:
    """The normalized project name. An option such as `--index-url` is unchanged."""
    name = _NAME.match(line)
    return canonicalize_name(name[0]) if name else line


def _is_mlflow_before_2_16(line: str) -> bool:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return False
    return canonicalize_name(requirement.name) in {"mlflow", "mlflow-skinny"} and any(
        each.operator in {"==", "<", "<="}
        and Version(each.version.removesuffix(".*")) < _MLFLOW_WITHOUT_PKG_RESOURCES
        for each in requirement.specifier
    )
