"""The parts of the documentation that tests check: fenced blocks, commands, links, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_FOLDERS = ("docs", "examples", "pipelines", "tools")
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(
        path.relative_to(REPOSITORY).as_posix()
        for folder in _FOLDERS
        for path in (REPOSITORY / folder).rglob("*.md")
        if not any(part.startswith(".") for part in path.relative_to(REPOSITORY).parts)
    ),
]
"""Every page, relative to the repository. The README is first: its blocks run in its order."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"(?:^|\s+)# .*$")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block. `line` is that of its opening fence."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[str]:
        """The commands of a `console` or `sh` block, without prompts and comments."""
        if self.language == "console":
            lines = [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]
        elif self.language == "sh":
            lines = self.text.replace("\\\n", " ").splitlines()
        else:
            return []
        commands = (re.sub(r"\s+", " ", _COMMENT.sub("", line)).strip() for line in lines)
        return [command for command in commands if command]


def text_of(page: str) -> str:
    """The text of a page."""
    return (REPOSITORY / page).read_text()


def blocks(*languages: str) -> Iterator[Block]:
    """The fenced blocks of all pages in these languages; all blocks without one."""
    for page in PAGES:
        text = text_of(page)
        for match in _FENCE.finditer(text):
            block = Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
            if not languages or block.language in languages:
                yield block


def links(page: str) -> list[str]:
    """The targets of the page's links and images."""
    return _LINK.findall(_INLINE.sub("code", _FENCE.sub("", text_of(page))))


def inline_code(page: str) -> list[str]:
    """The page's code spans."""
    return _INLINE.findall(_FENCE.sub("", text_of(page)))


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to the page's headings."""
    headings = _HEADING.findall(_FENCE.sub("", text_of(page)))
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }
